"""Stage ``plot masks``: a masks artifact in, one picture out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.maintenance import open_parent
from fer_cli.artifacts.store import Store
from fer_cli.core.errors import UsageError
from fer_cli.core.labels import REGIONS
from fer_cli.core.progress import note, track
from fer_cli.datasets.dataset import Dataset, open_dataset
from fer_cli.faces.masks import Masks, open_masks
from fer_cli.faces.region_scores import RegionScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHERE: Final = ("faces", "mean")
"""What ``fer plot masks`` shows."""
MAPS_AT_ONCE: Final = 512


def masks(
    store: Store, *, reference: str | None, where: str = "faces", faces: int = 12, beside: str | None = None
) -> tuple[str, Figure]:
    """Draw the best and the most doubtful faces of a masks artifact with their maps, or its mean region map.

    With ``beside``, faces drawn by chance, with their maps by this and by another artifact of the same data set.
    """
    from fer_cli.reporting.masks import mean_map_figure

    if where not in WHERE:
        raise UsageError(f"--view {where!r} is no place", hint=f"take {' or '.join(WHERE)}")
    if where == "mean" and beside is not None:
        raise UsageError(
            "--view mean shows one set of masks", hint="leave out --compare-with, or draw the other one too"
        )
    artifact = store.find(reference, ["masks"])
    dataset = open_dataset(open_parent(store, artifact, "dataset"))
    opened = open_masks(artifact, dataset)
    summary = artifact.manifest.summary
    told = f"{summary['parser']} on {dataset.artifact.name}"
    if where == "mean":
        shares = _mean_shares(opened)
        return f"{artifact.name}-mean", mean_map_figure(
            shares, f"Mean region map of {dataset.artifact.name}", f"{told}, {len(opened):,} pictures"
        )
    if beside is not None:
        other = open_masks(store.find(beside, ["masks"]), dataset)
        return f"{artifact.name}-beside-{other.artifact.manifest.summary['parser']}", _beside(
            opened, other, dataset, faces
        )
    doubtful = f"{summary['doubtful']:,} of {len(opened):,} maps doubtful ({summary['doubtful'] / len(opened):.1%})"
    return artifact.name, _masks_figure(
        opened, dataset, faces, f"Face regions of {dataset.artifact.name}", f"{told}; {doubtful}"
    )


def _masks_figure(opened: Masks, dataset: Dataset, faces: int, title: str, subtitle: str) -> Figure:
    from fer_cli.reporting.masks import MaskedFace, masks_figure

    scores = opened.scores().select(["id", "pixels", "doubt", "reasons", "agreement"]).to_pylist()
    first: dict[str, int] = {}  # equal pictures are shown once
    for row, one in enumerate(scores):
        first.setdefault(one["pixels"], row)
    rows = sorted(first.values(), key=lambda row: (scores[row]["doubt"], scores[row]["id"]))
    best = [row for row in rows if not scores[row]["reasons"]][:faces]
    worst = [row for row in reversed(rows) if scores[row]["reasons"]][:faces]

    def shown(chosen: list[int]) -> list[MaskedFace]:
        maps = opened.maps(chosen)
        return [
            MaskedFace(np.asarray(dataset.images[row]), one, "\n".join([scores[row]["id"], *_said(scores[row])]))
            for row, one in zip(chosen, maps, strict=True)
        ]

    return masks_figure({"The best": shown(best), "The most doubtful": shown(worst)}, title, subtitle)


def _beside(first: Masks, second: Masks, dataset: Dataset, faces: int) -> Figure:
    from fer_cli.reporting.masks import compare_figure

    rows = np.sort(np.random.default_rng(0).choice(len(first), min(faces, len(first)), replace=False))
    names = [str(one.artifact.manifest.summary["parser"]) for one in (first, second)]
    if names[0] == names[1]:
        names = [one.artifact.reference.removeprefix("masks/") for one in (first, second)]
    scores = mask_agreement(first, second)
    regions = [(name, value) for name, value in zip(REGIONS, scores.iou, strict=True) if np.isfinite(value)]
    note(f"mIoU {scores.miou:.4f} over {len(first):,} pictures: {', '.join(f'{n} {v:.3f}' for n, v in regions)}")
    weakest = sorted(regions, key=lambda one: one[1])[:3]
    return compare_figure(
        [np.asarray(dataset.images[row]) for row in rows],
        {name: list(one.maps(rows)) for name, one in zip(names, (first, second), strict=True)},
        f"Face regions of {dataset.artifact.name}: {names[0]} beside {names[1]}",
        f"mIoU {scores.miou:.3f} over {len(first):,} pictures; least for "
        + ", ".join(f"{name} {value:.2f}" for name, value in weakest),
    )


def mask_agreement(first: Masks, second: Masks) -> RegionScores:
    """Return what two sets of masks of one data set have in common."""
    scores = RegionScores.none()
    for start in range(0, len(first), MAPS_AT_ONCE):
        rows = range(start, min(len(first), start + MAPS_AT_ONCE))
        scores = scores.plus(second.maps(rows), first.maps(rows))
    return scores


def _said(scores: dict[str, Any]) -> list[str]:
    if scores["reasons"]:
        return [", ".join(scores["reasons"])]
    return [] if scores["agreement"] is None else [f"mirror agrees {scores['agreement']:.0%}"]


def _mean_shares(opened: Masks) -> NDArray[np.float64]:
    """Return how often each region stands at each pixel: (regions, H, W)."""
    counts = np.zeros((len(REGIONS), opened.height, opened.width))
    with track("reading the maps", len(opened)) as advance:
        for start in range(0, len(opened), MAPS_AT_ONCE):
            maps = opened.maps(range(start, min(len(opened), start + MAPS_AT_ONCE)))
            for region in range(len(REGIONS)):
                counts[region] += (maps == region).sum(0)
            advance(len(maps))
    return counts / len(opened)
