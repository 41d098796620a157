"""Stage ``export-predictions``: an evaluation in, its predictions as a table for other programs out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.payload import read_table
from fer_cli.artifacts.store import Store
from fer_cli.artifacts.summaries import EvaluationSummary
from fer_cli.core.errors import FerError, UsageError
from fer_cli.evaluation.comparison_inputs import KINDS, evaluation_of

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS: Final = (".csv", ".parquet")
_SCORE: Final = "score_"


def form_of(path: Path | None, option: str) -> str:
    """Return how a table is written, by the suffix of its file; csv where there is no file.

    Raises:
        UsageError: the suffix is of no table.
    """
    suffix = ".csv" if path is None else path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"{option} {path} has no suffix of a table", hint=f"end it in {' or '.join(FORMATS)}")
    return suffix


def table_file(table: pa.Table, suffix: str) -> bytes:
    """Return a table as the bytes of a file; in a csv a text that a spreadsheet would run as a formula is marked."""
    if suffix == ".parquet":
        from fer_cli.artifacts.payload import table_bytes

        return table_bytes({name: table[name].to_pylist() for name in table.column_names})
    from fer_cli.stages.compare import csv_bytes

    columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns]
    return csv_bytes([tuple(table.column_names), *zip(*columns, strict=True)])


def predictions(
    *, store: Store, reference: str, predictor: str | None = None, every: bool = False
) -> tuple[Artifact, pa.Table]:
    """Return an evaluation and its predictions, one row an image and predictor.

    Columns: ``id``, ``split``, ``predictor``, ``label``, ``predicted``, ``fold`` where there are folds, and for each
    class ``p_CLASS``, its probability, empty where the predictor gave none. The mean over seeds is of scores: in its
    place are the predictions of every seed.

    Args:
        store: where artifacts are.
        reference: of an evaluation, or of what was scored: then of its newest evaluation.
        predictor: one of the evaluation's, such as ``seed 1`` or ``ensemble``; the chosen one where it is None.
        every: all of them.

    Raises:
        UsageError: a predictor is named, and all are asked for.
        FerError: a reference leads to nothing, or the evaluation has no such predictor.
    """
    if every and predictor is not None:
        raise UsageError("--predictor and --all contradict each other", hint="leave one out")
    evaluation = evaluation_of(store, store.find(reference, KINDS))
    summary = EvaluationSummary.of(evaluation)
    if predictor is not None and predictor not in summary.outputs:
        raise FerError(
            f"{evaluation.reference} has no predictor {predictor!r}", hint=f"it has {', '.join(summary.outputs)}"
        )
    wanted = list(summary.outputs) if every else summary.runs(predictor or summary.chosen)
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read_table(evaluation.file("all-predictors.parquet"))
    table = table.filter(pc.is_in(table["predictor"], pa.array(wanted)))
    scores = [name for name in table.column_names if name.startswith(_SCORE)]
    first = [name for name in ("predictor", "label", "predicted", "fold") if name in table.column_names]
    columns = {"id": table["id"], "split": pa.array([summary.split] * len(table), pa.string())}
    columns |= {name: table[name] for name in first}
    columns |= {
        f"p_{name.removeprefix(_SCORE)}": pc.if_else(pc.is_nan(table[name]), None, table[name]) for name in scores
    }
    return evaluation, pa.table(columns)
