"""``fer split``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import Output, artifact_output, headline, listed, print_pairs
from fer_cli.cli.options import DatasetArgument, ForceOption, SeedOption, command

if TYPE_CHECKING:
    from fer_cli.artifacts.artifact import Artifact
    from fer_cli.artifacts.result import Result
    from fer_cli.artifacts.store import Store


@command("split")
def split(
    store: Store,
    dataset: DatasetArgument = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of folds, for `fer train --fold`: each image is in one test fold.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="How folds are made. subject: fold i holds sorted(subjects)[i::FOLDS]; class: stratified by class, "
            "subjects and identical images kept together. [default: subject if every image has one, else class] "
            "With --leaky-frame-split class splits each class by itself."
        ),
    ] = None,
    leaky_frame_split: Annotated[
        str | None,
        typer.Option(
            help="TRAIN:TEST, such as 2:1: a random split of frames, so that sequences leak into test. Only to "
            "reproduce a paper: such numbers are unsound."
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="A csv with the columns id and split, id and fold, or all three, as --export writes it."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="The classes that are kept, with commas; images of the others are left out."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="A dataset with the same images, such as ferplus for fer2013: each goes to the split that it has "
            "there, known by its file or pixels. So a model of one can start a training on the other."
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            help="Share of train, in each fold too, that becomes validation; given alone it is carved again; 0: none. "
            "[default: 0.1; a list with splits is taken as it is]"
        ),
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Write ids, splits and folds to this csv.")] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    name: str | None = None,
) -> Output:
    """Split a dataset again, or into folds; export or import it.

    The images are shared with the original dataset, not copied.
    """
    from fer_cli.core.errors import UsageError

    if export is not None and (export.is_dir() or not export.parent.is_dir()):
        raise UsageError(f"--export {export} cannot be written", hint="give the path of a csv in an existing folder")
    splits_again = any(value is not None for value in (folds, by, leaky_frame_split, ids, like, classes, validation))
    if export is not None and not splits_again:
        from fer_cli.stages.split import export as write

        return _exported(write(store=store, dataset=dataset, path=export), export)
    from fer_cli.cli.requests import answer

    options: dict[str, Any] = {
        "name": name,
        "folds": folds,
        "by": by,
        "frames": leaky_frame_split,
        "ids": ids,
        "classes": None if classes is None else listed(classes, "--classes"),
        "validation": validation,
        "seed": seed,
    }

    def build(references: Mapping[str, Any]) -> Sequence[Result]:
        from fer_cli.stages.split import split as stage

        return [stage(store=store, **references, **options, force=force)]

    named: dict[str, tuple[str | None, list[str]]] = {"dataset": (dataset, ["dataset"])}
    if like is not None:
        named["like"] = (like, ["dataset"])
    [result] = answer(store, "split", options, named, build, force=force)
    lines = _lines(result.artifact)
    if export is not None:
        from fer_cli.stages.split import export as write

        write(store=store, dataset=result.artifact.reference, path=export)
        lines.append(("list", str(export)))
    return artifact_output(result, lines)


def _lines(artifact: Artifact) -> list[tuple[str, str]]:
    from fer_cli.artifacts.protocol import LEAKY_FRAMES, DatasetProtocol

    protocol = DatasetProtocol.of(artifact)
    if (folds := protocol.folds) is not None:
        lines = [
            ("folds", f"{folds.number} of {min(folds.images):,} to {max(folds.images):,} images: {folds.rule}"),
            ("validation", str(folds.validation)),
            ("folds hash", folds.hash),
        ]
        what = "without --fold"
    else:
        lines = [("validation", str(protocol.validation)), ("test", str(protocol.test))]
        what = "split"
    lines.append((what, ", ".join(f"{number:,} {name}" for name, number in protocol.n.items())))
    lines.append(("split hash", protocol.split_hash))
    if protocol.leaky_frame_split:
        lines.append(("UNSOUND", LEAKY_FRAMES))
    return lines


def _exported(artifact: Artifact, path: Path) -> Output:
    from fer_cli.artifacts.protocol import DatasetProtocol
    from fer_cli.artifacts.summaries import DatasetSummary

    protocol = DatasetProtocol.of(artifact)
    folds_hash = None if protocol.folds is None else protocol.folds.hash
    images = DatasetSummary.of(artifact).images

    def show() -> None:
        headline(str(path), "written")
        pairs = [("dataset", f"{artifact.reference}, {images:,} images"), ("split hash", protocol.split_hash)]
        print_pairs([*pairs, *([("folds hash", folds_hash)] if folds_hash else [])])

    values = {"artifact": artifact.to_json(), "export": str(path), "images": images}
    return Output({**values, "split_hash": protocol.split_hash, "folds_hash": folds_hash}, show)
