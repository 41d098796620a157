"""``fer ls``: what is in the store, and the leaderboard of its evaluations."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fer_cli.cli.common import Output, listed, print_file, print_table, say
from fer_cli.cli.options import command
from fer_cli.cli.watch import running_output
from fer_cli.core.errors import FerError, UsageError
from fer_cli.core.format import estimate

if TYPE_CHECKING:
    from fer_cli.artifacts.annotations import Annotations
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.manifest import Input, Manifest
    from fer_cli.artifacts.store import Store

SCORES: Final = ("accuracy", "balanced_accuracy", "macro_f1")
COLUMNS: Final = {
    "kind": "left",
    "reference": "left",
    "state": "left",
    "accuracy": "right",
    "balanced_accuracy": "right",
    "macro_f1": "right",
    "split": "left",
    "images": "right",
    "dataset": "left",
    "differs": "left",
    "tags": "left",
    "note": "left",
    "created": "left",
    "size": "right",
    "summary": "left",
    "path": "left",
}
"""What ``--columns`` takes, with each column's side."""
_LIST: Final = ("kind", "reference", "state", "tags", "summary", "created", "size")
_BOARD: Final = ("reference", "state", "accuracy", "differs", "tags", "note", "balanced_accuracy", "macro_f1", "split")
_WRAPPED: Final = ("differs", "tags", "note", "summary", "path")
_DROPPED: Final = (
    *("path", "size", "created", "macro_f1", "balanced_accuracy", "images", "dataset", "split", "summary", "note"),
    *("differs", "tags", "kind"),
)
"""The least needed first."""
_FOLDED: Final = 32
"""Characters of a reference that a line has at least."""


@command("ls")
def ls(
    store: Store,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="REF",
            help="Only what this names and what was made from it, of a study or a search its models too: NAME, "
            "NAME@VERSION, KIND/NAME, 'arm-*'; or a kind. [default: all]",
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind, such as model or evaluation.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only what has this tag; may be repeated.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            help="accuracy, balanced_accuracy or macro_f1: the evaluations, the best first; created, size or "
            "reference. [default: the last built or used first]",
        ),
    ] = None,
    columns: Annotated[str | None, typer.Option("--columns", help=f"Which, by comma: {', '.join(COLUMNS)}.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a csv with these columns.")] = False,
    running: Annotated[bool, typer.Option("--running", help="The work under way, and how far it is.")] = False,
) -> Output:
    """List the artifacts; with --sort accuracy or --kind evaluation a leaderboard.

    `differs` shows in what a run differs from the recipe of its system; of versions of one name, in what they differ
    from each other. An evaluation has the tags of what it scored too. Intervals are 95%.
    """
    from fer_cli.artifacts.manifest import KINDS

    if running:
        if what or kind or tag or sort or columns or as_csv:
            raise UsageError("--running lists all work under way", hint="give no other choice with it")
        return running_output(store)
    if what in KINDS and kind is None:
        what, kind = None, what
    if kind is not None and kind not in KINDS:
        raise UsageError(f"{kind!r} is not a kind of artifact", hint=f"take {', '.join(KINDS)}")
    if sort not in (None, *SCORES, "created", "size", "reference"):
        raise UsageError(f"--sort {sort!r} is not a choice", hint=f"take {', '.join(SCORES)}, created, size, reference")
    if sort in SCORES:
        if kind not in {None, "evaluation"}:
            raise UsageError(f"--sort {sort} is for evaluations", hint="leave --kind out")
        kind = "evaluation"
    chosen = list(_BOARD if kind == "evaluation" else _LIST) if columns is None else listed(columns, "--columns")
    if unknown := [name for name in chosen if name not in COLUMNS]:
        raise UsageError(f"--columns: there is no {unknown[0]!r}", hint=f"take {', '.join(COLUMNS)}")
    entries = _Listing(store).entries(what, KINDS if kind is None else (kind,), tag or ())
    if sort is not None:
        entries.sort(key=lambda entry: _order(entry, sort))

    def show() -> None:
        if as_csv:
            print_file(csv_of(entries, chosen if columns else list(COLUMNS)))
        elif not entries:
            given = what is not None or kind is not None or tag
            hint = "nothing of the kind" if given else "no artifacts"
            say(f"{hint} in {store.root}; " + ("see 'fer ls'" if given else "build the first with 'fer demo'"))
        else:
            rows = [[_cell(entry, name) for name in chosen] for entry in entries]
            used = [
                at for at, name in enumerate(chosen) if name in {"reference", "kind"} or any(row[at] for row in rows)
            ]
            heads = {_heading(chosen[at]): COLUMNS[chosen[at]] for at in used}
            table = [[row[at] for at in used] for row in rows]
            dropped = [_heading(name) for name in _DROPPED if _heading(name) in heads]
            print_table(heads, table, wrap=_WRAPPED, fold={"reference": _FOLDED}, drop=dropped)

    return Output({"artifacts": entries}, show)


def in_bytes(size: int) -> str:
    """Return a size with its unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


class _Listing:
    """What there is, read once."""

    def __init__(self, store: Store) -> None:
        from fer_cli.artifacts.annotations import Annotations
        from fer_cli.artifacts.manifest import read_manifest

        self.store = store
        self.annotations: Annotations = Annotations(store)
        self.manifests: dict[Path, Manifest] = {}
        self.faults: dict[Path, FerError] = {}
        for directory in store.directories():
            try:
                self.manifests[directory] = read_manifest(directory)
            except FerError as error:
                self.faults[directory] = error
        self._made_from: dict[Path, set[Path]] = {}

    def entries(self, what: str | None, kinds: Sequence[str], tags: Sequence[str]) -> list[dict[str, Any]]:
        """Return the artifacts that are asked for, as ``--json`` prints them."""
        from fer_cli.artifacts.dependents import unfinished_work, work_inputs

        roots = None if what is None else self._named(what)
        parts = set() if roots is None else {part for root in roots for part in self._parts(root)}
        entries = [
            self._entry(directory)
            for directory in self.store.directories(kinds)
            if roots is None or directory in roots | parts or roots & self._made_of(directory)
        ]
        unfinished = unfinished_work(self.store, kinds)
        if roots is not None:
            sources = dict(work_inputs(self.store))
            unfinished = [
                work
                for work in unfinished
                if work.path in roots
                or any(roots & self._made_of(self._place(source)) for source in sources.get(work.path, ()))
            ]
        entries += [
            {
                **{"kind": work.kind, "name": work.name, "version": work.version, "path": str(work.path)},
                "state": "under way" if work.is_under_way(self.store) else "unfinished",
                "headline": "the same command resumes it",
            }
            for work in unfinished
        ]
        return [entry for entry in entries if set(tags) <= set(entry.get("tags", ()))]

    def _named(self, reference: str) -> set[Path]:
        """Return all artifacts of a name, or of the version that is named, and unfinished work of that name.

        Raises:
            FerError: there is none.
        """
        from fer_cli.artifacts.dependents import unfinished_work
        from fer_cli.artifacts.manifest import KINDS

        name, _, version = reference.partition("@")
        kind, slash, rest = name.partition("/")
        kinds, name = ((kind,), rest) if slash and kind in KINDS else (KINDS, name)
        if re.fullmatch(r"[a-z0-9][a-z0-9._-]*[*]?", name) and re.fullmatch(r"[0-9a-f]*", version):
            found = {*self.store.directories(kinds, name, f"{version}*")}
            found |= {work.path for work in unfinished_work(self.store, kinds, name, f"{version}*")}
            if found:
                return found
        only = self.store.find(reference, KINDS)  # the only seed of a name, a path, or an error
        return {self._place(only.as_input())}

    def _parts(self, directory: Path) -> set[Path]:
        """Return the models that a study, a search or an ensemble is of, those of its studies too."""
        manifest = self.manifests.get(directory)
        if manifest is None or manifest.kind not in {"study", "search", "ensemble"}:
            return set()
        models = {self._place(one) for one in manifest.inputs.values() if one.kind in {"model", "study"}}
        return models.union(*(self._parts(model) for model in models))

    def _place(self, source: Input) -> Path:
        return self.store.place(source.kind, source.name, source.version)

    def _made_of(self, directory: Path) -> set[Path]:
        """Return the artifact itself and all that it was made from."""
        if directory not in self._made_from:
            self._made_from[directory] = {directory}
            manifest = self.manifests.get(directory)
            for source in () if manifest is None else manifest.inputs.values():
                if (place := self._place(source)) in self.manifests:
                    self._made_from[directory] |= self._made_of(place)
        return self._made_from[directory]

    def _entry(self, directory: Path) -> dict[str, Any]:
        from fer_cli.artifacts.manifest import OldSchemaError

        kind, name, version = directory.parts[-3:]
        size = sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
        entry: dict[str, Any] = {"kind": kind, "name": name, "version": version, "path": str(directory), "bytes": size}
        said = self.annotations.of(kind, version)
        entry |= {"tags": list(said.tags), "note": said.note}
        try:
            if directory in self.faults:
                raise self.faults[directory]
            artifact = self.store.open(directory)
            entry |= {"created": artifact.manifest.created, "headline": _brief(artifact)}
            entry |= {"summary": artifact.manifest.summary, "state": "ok"}
            if kind == "evaluation":
                entry |= self._scores(artifact)
        except FerError as error:
            is_old = isinstance(error, OldSchemaError)
            text = error.hint if is_old else error.what
            entry |= {"state": "old schema" if is_old else "DAMAGED", "headline": text}
            return {**entry, "old_schema" if is_old else "damaged": str(error)}
        return {**entry, "differs": self._differences(directory)}

    def _scores(self, artifact: Artifact) -> dict[str, Any]:
        """Return an evaluation's scores with their intervals, and the tags of what it scored."""
        from fer_cli.artifacts.summaries import EvaluationSummary

        summary = EvaluationSummary.of(artifact)
        path = artifact.file("metrics.json")
        try:
            metrics = json.loads(path.read_bytes())
            scores = {name: dict(metrics["predictors"][metrics["chosen"]][name]) for name in SCORES}
        except (KeyError, TypeError, ValueError) as error:
            raise FerError("these are no metrics", hint="run `fer eval` again with --force", path=path) from error
        source = artifact.manifest.inputs.get("model")
        said = self.annotations.of(artifact.kind, artifact.version)
        scored = () if source is None else self.annotations.of(source.kind, source.version).tags
        return {
            **scores,
            "predictor": summary.chosen,
            "dataset": summary.dataset,
            "split": summary.split,
            "images": summary.images,
            "state": "UNSOUND" if summary.unsound else "ok",
            "tags": sorted({*said.tags, *scored}),
        }

    def _differences(self, directory: Path) -> list[str]:
        """Return in what a run differs from its system's recipe, and versions of one name from each other."""
        words = list(self._words(directory))
        others = [path for path in self.manifests if path.parent == directory.parent]
        if len(others) > 1:
            ours = _flat(self.manifests[directory])
            every = [_flat(self.manifests[path]) for path in others]
            keys = [key for key in ours if len({repr(one.get(key)) for one in every}) > 1]
            words += [f"{key}={_short(ours[key])}" for key in keys]
        return list(dict.fromkeys(words))

    def _words(self, directory: Path) -> Sequence[str]:
        from fer_cli.artifacts.artifact import Artifact
        from fer_cli.artifacts.summaries import ModelConfig
        from fer_cli.systems.naming import variant_of

        manifest = self.manifests[directory]
        if manifest.kind == "model":
            try:
                variant = variant_of(ModelConfig.of(Artifact(directory, manifest)))
            except FerError:
                return ()
            return () if variant is None else variant.name_words
        if manifest.kind in {"study", "evaluation"}:
            for source in manifest.inputs.values():
                if source.kind in {"model", "study"} and (place := self._place(source)) in self.manifests:
                    return self._words(place)
        return ()


def _flat(manifest: Manifest) -> dict[str, Any]:
    """Return all that tells versions of one name apart, flat and by name."""
    flat: dict[str, Any] = {"revision": manifest.revision}
    flat |= {role: f"{source.version or source.content[:12]}" for role, source in manifest.inputs.items()}

    def walk(prefix: str, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            else:
                flat[f"{prefix}{key}".removeprefix("recipe.")] = value

    walk("", manifest.config)
    return flat


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, list):
        return "-".join(map(_short, value))
    return value[:12] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32,}", value) else str(value)


def _heading(name: str) -> str:
    return {"balanced_accuracy": "balanced", "created": "created (UTC)", "macro_f1": "macro F1"}.get(name, name)


def _cell(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    match name:
        case "reference":
            return f"{entry['name']}@{entry['version'][:6]}"
        case "state":
            return "" if value == "ok" else str(value)
        case "size":
            return in_bytes(entry["bytes"]) if "bytes" in entry else ""
        case "summary":
            return str(entry["headline"])
        case "created":
            return "" if value is None else str(value).replace("T", " ").removesuffix("+00:00")
        case "tags":
            return " ".join(value or ())
        case "differs":
            return ", ".join(value or ())
        case "accuracy" | "balanced_accuracy" | "macro_f1":
            return "" if value is None else estimate(value["value"], value["low"], value["high"], sd=value.get("sd"))
        case _:
            return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _order(entry: Mapping[str, Any], sort: str) -> Any:  # noqa: ANN401 - a number or text
    match sort:
        case "reference":
            return f"{entry['kind']}/{entry['name']}@{entry['version']}"
        case "size":
            return -int(entry.get("bytes", 0))
        case "created":
            return [-ord(letter) for letter in entry.get("created", "")] or [0]
        case _:
            value = entry[sort]["value"] if sort in entry else None
            return math.inf if value is None else -value


def csv_of(entries: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return a table with a column each for a score, the ends of its interval and its SD over the runs of a study."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    parts = {"": "value", "_low": "low", "_high": "high", "_sd": "sd"}
    writer.writerow(
        [head for name in columns for head in ([f"{name}{end}" for end in parts] if name in SCORES else [name])]
    )
    for entry in entries:
        row: list[object] = []
        for name in columns:
            if name in SCORES:
                score = entry.get(name, {})
                row += [score.get(part, "") for part in parts.values()]
            elif name == "reference":
                row.append(f"{entry['kind']}/{entry['name']}@{entry['version']}")
            elif name == "size":
                row.append(entry.get("bytes", ""))
            else:
                row.append(_cell(entry, name) if name != "state" else entry["state"])
        writer.writerow(row)
    return stream.getvalue()


def _brief(artifact: Artifact) -> str:
    """Return what an artifact holds, in one line."""
    from fer_cli.artifacts import summaries

    match artifact.kind:
        case "dataset":
            dataset = summaries.DatasetSummary.of(artifact)
            folds = [] if dataset.folds is None else [f"{dataset.folds} folds"]
            return ", ".join([*(f"{number:,} {split}" for split, number in dataset.splits.items()), *folds])
        case "masks":
            masks = summaries.MasksSummary.of(artifact)
            return f"{masks.images:,} by {masks.parser}, {masks.doubtful:,} doubtful"
        case "features":
            features = summaries.FeaturesSummary.of(artifact)
            shape = "x".join(str(side) for side in features.shape)
            return f"{features.images:,} x {shape} {features.dtype}, {'+'.join(features.views)}"
        case "ahm":
            return summaries.AhmSummary.of(artifact).headline
        case "model":
            return summaries.ModelSummary.of(artifact).headline
        case "study":
            return summaries.StudySummary.of(artifact).headline
        case "search":
            return summaries.SearchSummary.of(artifact).headline
        case "ensemble":
            return summaries.EnsembleSummary.of(artifact).headline
        case "soft-targets":
            return summaries.SoftTargetsSummary.of(artifact).headline
        case _:
            return summaries.EvaluationSummary.of(artifact).headline
