"""``fer prepare``: one subcommand a data set."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_cli.cli.alignment import (
    RULE,
    DetectorHashOption,
    DetectorOption,
    DetectorWeightsOption,
    DeviceOption,
    How,
    NoFaceOption,
    aligned,
    refuse_idle,
)
from fer_cli.cli.common import (
    SEED_MAX,
    DebugOption,
    ForceOption,
    JsonOption,
    StoreOption,
    open_store,
    print_result,
    source_path,
    summary_of,
)
from fer_cli.core.errors import FerError
from fer_cli.datasets.access import AFFECTNET, CKPLUS, RAFDB, SFEW

if TYPE_CHECKING:
    from fer_cli.datasets.records import Loader

app = typer.Typer(
    help="Read a data set's layout, check it, keep it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SourceOption = Annotated[
    Path | None, typer.Option("--source", help="The file or folder. [default: $FER_DATA/NAME, else ./data/NAME]")
]
IncompleteOption = Annotated[
    bool, typer.Option("--allow-incomplete", help="Take a source that lacks a split or rows; the manifest says so.")
]
ValidationOption = Annotated[
    float, typer.Option("--validation", help="Share of train that becomes validation where the source has none.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=SEED_MAX, help="Of everything that is drawn by chance.")]
DropOption = Annotated[
    bool,
    typer.Option("--drop-duplicates", help="Leave out training pictures that (nearly) equal others; see fer audit."),
]
SizeOption = Annotated[
    int | None, typer.Option("--size", help="Side in pixels to resize to. [default: native, 112 where sizes differ]")
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", help="Threads that decode pictures. [default: one a core, at most 4]")
]


@app.command("rafdb", help=RAFDB.help(), short_help="RAF-DB basic: official layout, or folders of ids.")
def rafdb(
    source: SourceOption = None,
    allow_incomplete: IncompleteOption = False,
    size: SizeOption = None,
    jobs: JobsOption = None,
    drop_duplicates: DropOption = False,
    validation: ValidationOption = 0.1,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """RAF-DB basic; the help is made of what is known on how to get it."""
    from fer_cli.datasets.rafdb import RafDb

    place = source_path("rafdb", source)
    loader = RafDb(source=place, allow_incomplete=allow_incomplete, size=size, jobs=jobs)
    _prepare(loader, store, json, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force)


@app.command(
    "ckplus", help=f"{CKPLUS.help()}\n\n{RULE}", short_help="CK+: official sequences, class folders, or ckextended.csv."
)
def ckplus(
    source: SourceOption = None,
    neutral: Annotated[
        bool, typer.Option("--neutral", help="With neutral: the first frame of each labelled sequence.")
    ] = False,
    contempt: Annotated[bool, typer.Option("--contempt/--no-contempt", help="With or without contempt.")] = True,
    align: Annotated[
        bool, typer.Option("--align/--no-align", help="Align the face in each frame of the official layout.")
    ] = False,
    detector: DetectorOption = "auto",
    weights: DetectorWeightsOption = None,
    weights_sha256: DetectorHashOption = None,
    no_face: NoFaceOption = "centre",
    device: DeviceOption = "auto",
    allow_incomplete: IncompleteOption = False,
    size: SizeOption = None,
    jobs: JobsOption = None,
    drop_duplicates: DropOption = False,
    validation: ValidationOption = 0.1,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """CK+; the help is made of what is known on how to get it."""
    from fer_cli.datasets.ckplus import CkPlus, open_ckplus

    place = source_path("ckplus", source)
    loader = open_ckplus(
        source=place,
        neutral=neutral,
        contempt=contempt,
        allow_incomplete=allow_incomplete,
        size=size,
        jobs=jobs,
    )
    how = How(detector, weights, weights_sha256, no_face, device)
    if not align:
        refuse_idle(how)
    elif isinstance(loader, CkPlus) and loader.raw:
        loader = aligned(loader, how, size=size, jobs=jobs)
    else:
        raise FerError("no raw frames are here", hint="give the official layout, or leave out --align", path=place)
    _prepare(loader, store, json, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force)


@app.command("sfew", help=f"{SFEW.help()}\n\n{RULE}", short_help="SFEW 2.0: aligned faces, or raw frames.")
def sfew(
    source: SourceOption = None,
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Take the raw frames and align the face in each, or none. [default: where no aligned faces are]",
        ),
    ] = None,
    detector: DetectorOption = "auto",
    weights: DetectorWeightsOption = None,
    weights_sha256: DetectorHashOption = None,
    no_face: NoFaceOption = "centre",
    device: DeviceOption = "auto",
    allow_incomplete: IncompleteOption = False,
    size: SizeOption = None,
    jobs: JobsOption = None,
    drop_duplicates: DropOption = False,
    validation: ValidationOption = 0.1,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """SFEW 2.0; the help is made of what is known on how to get it."""
    from fer_cli.datasets.sfew import Sfew

    place = source_path("sfew", source)
    found = Sfew(source=place, raw=bool(align), allow_incomplete=allow_incomplete, size=size, jobs=jobs)
    how = How(detector, weights, weights_sha256, no_face, device)
    loader: Loader = found
    if found.raw and align is not False:
        loader = aligned(found, how, size=size, name="sfew-raw-aligned", jobs=jobs)
    else:
        refuse_idle(how)
    _prepare(loader, store, json, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force)


@app.command("affectnet", help=AFFECTNET.help(), short_help="AffectNet: csv lists, .npy files, or folders of ids.")
def affectnet(
    source: SourceOption = None,
    allow_incomplete: IncompleteOption = False,
    size: SizeOption = None,
    jobs: JobsOption = None,
    drop_duplicates: DropOption = False,
    validation: ValidationOption = 0.1,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """AffectNet; the help is made of what is known on how to get it."""
    from fer_cli.datasets.affectnet import AffectNet

    place = source_path("affectnet", source)
    loader = AffectNet(source=place, allow_incomplete=allow_incomplete, size=size, jobs=jobs)
    _prepare(loader, store, json, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force)


@app.command("fer2013")
def fer2013(
    source: SourceOption = None,
    allow_incomplete: IncompleteOption = False,
    drop_nonface: Annotated[
        Path | None,
        typer.Option("--drop-nonface", help="FER+ votes (fer2013new.csv): drop images that most voters call no face."),
    ] = None,
    drop_duplicates: DropOption = False,
    validation: ValidationOption = 0.1,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """FER2013: fer2013.csv (also .gz, .xz, .zip, .tar.gz), icml_face_data.csv, or train/ and test/ folders.

    PublicTest is validation and PrivateTest is test. Where PrivateTest is missing, PublicTest is the test split and
    validation is carved from Training, so that nothing is chosen on what is reported.
    """
    from fer_cli.datasets.fer2013 import Fer2013

    loader = Fer2013(
        source=source_path("fer2013", source), allow_incomplete=allow_incomplete, drop_nonface=drop_nonface
    )
    _prepare(loader, store, json, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force)


@app.command("ferplus")
def ferplus(
    source: SourceOption = None,
    votes: Annotated[
        Path | None, typer.Option("--votes", help="FER+ votes. [default: fer2013new.csv beside the source]")
    ] = None,
    rule: Annotated[str, typer.Option(help="majority (official), plurality, or votes (soft labels).")] = "majority",
    allow_incomplete: IncompleteOption = False,
    drop_duplicates: DropOption = False,
    validation: ValidationOption = 0.1,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """FER+: FER2013's images with ten votes each; joined to FER2013 by row order."""
    from fer_cli.datasets.ferplus import FerPlus

    place = source_path("ferplus", source)
    if votes is None:
        votes = (place if place.is_dir() else place.parent) / "fer2013new.csv"
    loader = FerPlus(source=place, votes=votes, rule=rule, allow_incomplete=allow_incomplete)
    _prepare(loader, store, json, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force)


@app.command("folder", help=f"Any split/class/image tree, class/image tree, or csv of paths and labels.\n\n{RULE}")
def folder(
    source: Annotated[Path, typer.Option("--source", help="The folder, or the csv.")],
    name: Annotated[str | None, typer.Option("--name", help="The data set's name. [default: the folder's]")] = None,
    size: SizeOption = None,
    grey: Annotated[
        bool | None, typer.Option("--grey/--colour", help="[default: colour where any picture has it]")
    ] = None,
    drop_duplicates: DropOption = False,
    align: Annotated[
        bool,
        typer.Option("--align/--no-align", help="Find the face in each picture, bring it to one place, upright."),
    ] = False,
    detector: DetectorOption = "auto",
    weights: DetectorWeightsOption = None,
    weights_sha256: DetectorHashOption = None,
    no_face: NoFaceOption = "centre",
    device: DeviceOption = "auto",
    validation: ValidationOption = 0.1,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Any tree or table of pictures; the help says by which rule faces are aligned."""
    from fer_cli.datasets.folder import Folder

    found = Folder(source=source, name=name, size=size, grey=grey)
    how = How(detector, weights, weights_sha256, no_face, device)
    loader: Loader = found
    if align:
        loader = aligned(found, how, size=size, name=name, grey=grey)
    else:
        refuse_idle(how)
    _prepare(loader, store, json, validation=validation, seed=seed, drop_duplicates=drop_duplicates, force=force)


@app.command("synth")
def synth(
    images: Annotated[int, typer.Option(help="How many faces.")] = 1600,
    subjects: Annotated[int, typer.Option(help="How many persons; each is in one split alone.")] = 80,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 112,
    imbalance: Annotated[float, typer.Option(help="Images of the largest class for one of the smallest.")] = 10.0,
    contempt: Annotated[bool, typer.Option("--contempt", help="With contempt: eight classes.")] = False,
    grey: Annotated[bool, typer.Option("--grey", help="Grey pictures.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Processes that draw. [default: one a core]")] = None,
    seed: SeedOption = 0,
    store: StoreOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Drawn faces with known action units, subjects and region masks: a test bench, no claim about real faces."""
    from fer_cli.datasets.synth.loader import Synth

    loader = Synth(
        images=images,
        subjects=subjects,
        size=size,
        imbalance=imbalance,
        contempt=contempt,
        grey=grey,
        jobs=jobs,
        seed=seed,
    )
    _prepare(loader, store, json, validation=0.1, seed=seed, force=force)


def _prepare(
    loader: Loader,
    store: Path | None,
    json: bool,
    *,
    validation: float,
    seed: int,
    drop_duplicates: bool = False,
    force: bool,
) -> None:
    from fer_cli.stages.prepare import prepare

    words = [word for word in sys.argv[1:] if word not in {"--json", "--debug", "--force"}]
    result = prepare(
        store=open_store(store),
        loader=loader,
        validation=validation,
        seed=seed,
        drop_duplicates=drop_duplicates,
        command=shlex.join(["fer", *words]),
        force=force,
    )
    summary = summary_of(result)
    protocol = result.artifact.manifest.protocol
    print_result(f"prepare {loader.name.partition('-')[0]}", result, _lines(summary, protocol), as_json=json)


def _lines(summary: dict[str, Any], protocol: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("labels", str(protocol["label_rule"]))]
    for split, counts in summary["classes"].items():
        of = ", ".join(f"{name} {number:,}" for name, number in counts.items())
        lines.append((split, f"{sum(counts.values()):,}  ({of})"))
    lines += [(f"{split} split", protocol[split]) for split in ("validation", "test") if "carved" in protocol[split]]
    lines += [(part, role) for part, role in protocol["roles"].items()]
    if "alignment" in protocol:
        lines.append(("alignment", protocol["alignment"]))
    lines += [("dropped", f"{number:,} {reason}") for reason, number in summary["dropped"].items()]
    lines += [("missing", text) for text in summary["missing"]]
    if extra := summary["duplicates"]["extra_copies"]:
        across = summary["duplicates"]["groups_across_splits"]
        lines.append(("duplicates", f"{extra:,} extra copies of equal pixels, {across:,} groups across splits"))
    return lines
