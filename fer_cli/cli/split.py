"""``fer split``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.common import (
    SEED_MAX,
    DebugOption,
    ForceOption,
    JsonOption,
    StoreOption,
    console,
    open_store,
    print_json,
    print_pairs,
    print_result,
)

if TYPE_CHECKING:
    from fer_cli.artifacts.store import Artifact


def split(
    dataset: Annotated[str | None, typer.Argument(help="The data set. [default: the newest]")] = None,
    folds: Annotated[
        int | None, typer.Option(help="So many folds, for `fer train --fold`: each image is tested in one.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Of folds. subject: fold i holds sorted(subjects)[i::FOLDS]; class: each its share of every class, "
            "subjects and equal images whole. [default: subject where every image has one]"
        ),
    ] = None,
    leaky_frame_split: Annotated[
        str | None,
        typer.Option(
            help="TRAIN:TEST, such as 2:1: frames at random, those of one sequence on both sides. For the record: no "
            "such number is sound."
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(help="A csv with the columns id and split, or id and fold, or all, as --export writes it."),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            help="Share of train, of each fold's too, that becomes validation; alone: carved anew; 0: none. "
            "[default: 0.1; of a list that gives splits: as it is]"
        ),
    ] = None,
    export: Annotated[Path | None, typer.Option(help="A csv to write ids, splits and folds to.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Of everything that is drawn by chance.")] = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Split a data set anew, put it in folds, or write its split to a file and take it up again.

    The pictures are shared with the data set that it is made from, not copied.
    """
    from fer_cli.core.errors import UsageError
    from fer_cli.stages.split import export as write
    from fer_cli.stages.split import split as stage

    if export is not None and (export.is_dir() or not export.parent.is_dir()):
        raise UsageError(f"--export {export} is no place for a file", hint="name a csv in a folder that is there")
    opened = open_store(store)
    asks = any(value is not None for value in (folds, by, leaky_frame_split, ids, validation))
    if export is not None and not asks:
        _print_export(write(store=opened, dataset=dataset, path=export), export, as_json=json)
        return
    result = stage(
        store=opened,
        dataset=dataset,
        folds=folds,
        by=by,
        frames=leaky_frame_split,
        ids=ids,
        validation=validation,
        seed=seed,
        force=force,
    )
    lines = _lines(result.artifact)
    if export is not None:
        write(store=opened, dataset=result.artifact.reference, path=export)
        lines.append(("list", str(export)))
    print_result("split", result, lines, as_json=json)


def _lines(artifact: Artifact) -> list[tuple[str, str]]:
    manifest = artifact.manifest
    protocol: dict[str, Any] = manifest.protocol
    lines = []
    if folds := protocol.get("folds"):
        images = folds["images"]
        lines += [
            ("folds", f"{folds['number']} of {min(images):,} to {max(images):,} images: {folds['rule']}"),
            ("validation", str(folds["validation"])),
            ("folds' hash", str(folds["hash"])),
        ]
        what = "without --fold"
    else:
        lines += [(name, str(protocol[name])) for name in ("validation", "test")]
        what = "split"
    lines.append((what, ", ".join(f"{number:,} {name}" for name, number in protocol["n"].items())))
    lines.append(("hash", str(protocol["split_hash"])))
    if text := protocol.get("unsound_split"):
        lines.append(("UNSOUND", str(text)))
    return lines


def _print_export(artifact: Artifact, path: Path, *, as_json: bool) -> None:
    protocol = artifact.manifest.protocol
    folds_hash = protocol.get("folds", {}).get("hash")
    if as_json:
        print_json(
            "split",
            artifact=artifact.to_json(),
            export=str(path),
            images=artifact.manifest.summary["images"],
            split_hash=protocol["split_hash"],
            folds_hash=folds_hash,
        )
        return
    console().print(f"[bold]{path}[/bold]  written", highlight=False, soft_wrap=True)
    print_pairs(
        [
            ("of", f"{artifact.reference}, {artifact.manifest.summary['images']:,} images"),
            ("hash", str(protocol["split_hash"])),
            *([("folds' hash", str(folds_hash))] if folds_hash else []),
        ]
    )
