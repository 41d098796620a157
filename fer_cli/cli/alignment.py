"""The options by which raw pictures are aligned, for all subcommands of ``fer prepare`` that read such."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from fer_cli.core.errors import UsageError

if TYPE_CHECKING:
    from fer_cli.datasets.records import PictureLoader
    from fer_cli.faces.aligned import Aligned

RULE: Final = (
    "Aligned faces are 112 px large, or --size. Of several faces the largest counts, weighted by how central it is; "
    "faces under 24 px never do. How often a face was in doubt is told, and the index says where."
)
"""What is decided for the user, for the help; :mod:`fer_cli.faces.alignment` does so."""

DetectorOption = Annotated[
    str,
    typer.Option(
        help="retinaface-resnet50, retinaface-mobile0.25 (fetched where they are not here), or auto: the first of them "
        "whose weights are here; without any, pictures are taken as face crops."
    ),
]
DetectorWeightsOption = Annotated[str | None, typer.Option("--weights", help="A file of weights of the detector.")]
DetectorHashOption = Annotated[
    str | None, typer.Option("--weights-sha256", help="The hash that the weights must have.")
]
NoFaceOption = Annotated[
    str,
    typer.Option(
        "--no-face",
        help="A picture without a face, or with none of 24 px: centre keeps its middle, drop leaves it out; then a "
        "test set is easier, and another one.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="The detector's: auto, cpu, cuda, cuda:N or mps.")]


class How(NamedTuple):
    """What the options say, each with its default."""

    detector: str = "auto"
    weights: str | None = None
    sha256: str | None = None
    without: str = "centre"
    device: str = "auto"


def refuse_idle(how: How) -> None:
    """Refuse options of alignment where nothing is aligned.

    Raises:
        UsageError: one of them has been given.
    """
    if how != How():
        raise UsageError(
            "--detector, --weights, --weights-sha256, --no-face and --device belong to --align", hint="add --align"
        )


def aligned(
    loader: PictureLoader,
    how: How,
    *,
    size: int | None,
    name: str | None = None,
    grey: bool | None = None,
    jobs: int | None = None,
) -> Aligned:
    """Return the loader with its faces aligned, or its pictures taken as face crops where there is no detector."""
    from fer_cli.datasets.image_list import DEFAULT_SIZE
    from fer_cli.faces.aligned import Aligned
    from fer_cli.faces.alignment import open_aligner

    return Aligned(loader, open_aligner(size=size or DEFAULT_SIZE, **how._asdict()), name=name, grey=grey, jobs=jobs)
