"""t-SNE of features: which expressions lie apart, and which do not (van der Maaten & Hinton 2008)."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_cli.core.errors import FerError
from fer_cli.reporting.lettering import class_names
from fer_cli.reporting.style import (
    EDGE,
    HEADING,
    INK,
    MUTED,
    bare,
    class_colour,
    class_marker,
    heading,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RING: Final = 0.7  # points, round a wrong answer


def tsne_backend() -> str:
    """Return which implementation will be used: "openTSNE" where it is installed, else "scikit-learn"."""
    return "openTSNE" if importlib.util.find_spec("openTSNE") else "scikit-learn"


def fitting_perplexity(n: int) -> float:
    """Return the usual perplexity, 30, or the largest that fits a few items: half of the most that is allowed."""
    return min(30.0, max(1.0, (n - 1) / 6))


def tsne_embedding(
    features: ArrayLike, *, seed: int, perplexity: float = 30.0, components: int = 50
) -> NDArray[np.float64]:
    """Return a two-dimensional t-SNE embedding of standardised features, started from their principal components.

    Starting from the principal components rather than at random keeps the global arrangement and makes pictures of two
    runs comparable (Kobak & Berens 2019, "The art of using t-SNE").

    Args:
        features: (n, d), finite.
        seed: of the optimisation.
        perplexity: the effective number of neighbours; below (n - 1) / 3.
        components: principal components kept before the embedding.

    Returns:
        (n, 2).

    Raises:
        FerError: features that are not finite or all alike, or too few items for the perplexity.
    """
    table = np.asarray(features, dtype=np.float64)
    n = len(table)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise FerError("the features are no table of finite numbers", hint="run `fer extract` again")
    if not 1 <= perplexity < (n - 1) / 3:
        most = (n - 1) / 3
        fits = "embed at least 5 images: choose another split (--split) or prepare more"
        hint = fits if most <= 1 else f"choose one from 1 to below {most:.4g}"
        raise FerError(f"perplexity {perplexity:g} does not fit {n} items", hint=hint)
    spread = table.std(axis=0)
    varied = spread > 1e-12 * max(1.0, float(np.abs(table).max()))
    if not varied.any():
        raise FerError("all features are alike: there is nothing to embed", hint="check the weights of the backbone")
    standard = (table[:, varied] - table[:, varied].mean(axis=0)) / spread[varied]
    reduced = _principal_components(standard, components)
    if tsne_backend() == "openTSNE":
        # By name, since it is not a dependency of this project.
        embedding = importlib.import_module("openTSNE").TSNE(
            perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=1
        )
        return np.asarray(embedding.fit(reduced), dtype=np.float64)
    from sklearn.manifold import TSNE

    start = reduced[:, :2] if reduced.shape[1] > 1 else np.column_stack([reduced, np.zeros(n)])
    fitted = TSNE(
        perplexity=perplexity, init=1e-4 * start / start[:, 0].std(), learning_rate="auto", random_state=seed, n_jobs=1
    )
    return np.asarray(fitted.fit_transform(reduced), dtype=np.float64)


def _principal_components(table: NDArray[np.float64], components: int) -> NDArray[np.float64]:
    """Return (n, k) scores on the leading principal components of a centred (n, d) table, signs fixed."""
    _, values, axes = np.linalg.svd(table, full_matrices=False)
    k = min(components, int((values > 1e-10 * values[0]).sum()))
    axes = axes[:k]
    # The sign of a component is arbitrary: its largest entry is made positive, so that pictures do not flip.
    axes = axes * np.sign(axes[np.arange(k), np.abs(axes).argmax(axis=1)])[:, None]
    scores: NDArray[np.float64] = table @ axes.T
    return scores


def tsne_figure(
    points: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    title: str = "",
    subtitle: str = "",
    *,
    wrong: NDArray[np.bool_] | None = None,
) -> Figure:
    """Draw an embedding, a colour and a shape a class, wrong answers ringed, with a legend that counts the items.

    Args:
        points: (n, 2).
        labels: (n,) indices into ``classes``.
        classes: names.
        title: one line.
        subtitle: one line under it, such as features, split, perplexity and how many items were drawn.
        wrong: (n,) which were answered wrongly; None where nothing was answered.

    Raises:
        ValueError: shapes that do not match.
    """
    from matplotlib.lines import Line2D

    if points.shape != (len(labels), 2):
        raise ValueError(f"points of shape {points.shape} for {len(labels)} labels")
    if wrong is not None and wrong.shape != labels.shape:
        raise ValueError(f"{len(wrong)} answers for {len(labels)} labels")
    missed = np.zeros(len(labels), bool) if wrong is None else wrong
    counts = np.bincount(labels, minlength=len(classes))
    spread = np.ptp(points, axis=0) if len(points) else np.ones(2)
    if spread[1] > spread[0]:  # the directions mean nothing: the longer one lies across, and no part is empty
        points, spread = points[:, ::-1], spread[::-1]
    shown, widest = class_names(classes)
    wide, top = 6.4, 0.15 + (HEADING if title else 0)
    high = max(3.6, wide * spread[1] / (spread[0] or 1))
    with styled():
        figure = new_figure(wide + max(2.5, widest + (1.9 if wrong is None else 2.0)), top + high + 0.2)
        width, height = figure.get_size_inches()
        axes = figure.add_axes((0.2 / width, 0.2 / height, wide / width, high / height))
        handles, entries = [], []
        # The rarest class last: it would vanish below the others.
        for order, label in enumerate(np.argsort(-counts, kind="stable")):
            name = classes[label]
            look: dict[str, Any] = {"marker": class_marker(name, label), "color": class_colour(name, label)}
            for ring in (False, True):
                chosen = (labels == label) & (missed == ring)
                edge: dict[str, Any] = {"linewidths": _RING if ring else 0.25, "edgecolors": INK if ring else EDGE}
                size = float(np.clip(24000 / max(len(labels), 1), 9, 50))
                if chosen.any():
                    axes.scatter(
                        points[chosen, 0], points[chosen, 1], s=size, alpha=0.8, zorder=2 + order, **edge, **look
                    )
        for label, name in enumerate(classes):
            look = {"marker": class_marker(name, label), "color": class_colour(name, label)}
            handles.append(Line2D([], [], linestyle="", markersize=7, **look))
            of_class = labels == label
            share = f", {missed[of_class].sum():,} wrong" if wrong is not None else ""
            entries.append(f"{shown[label]}   {counts[label]:,}{share}")
        if wrong is not None:
            look = {"markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": _RING}
            handles.append(Line2D([], [], linestyle="", marker="o", markersize=7, **look))
            entries.append("ring: wrong answer")
        bare(axes)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.03)
        axes.set_aspect("equal", adjustable="datalim")
        figure.legend(
            handles,
            entries,
            loc="upper left",
            bbox_to_anchor=((wide + 0.3) / width, 1 - top / height),
            frameon=False,
            labelspacing=0.75,
            handletextpad=0.4,
        )
        words = "Distances between far\nclusters mean little."
        figure.text((wide + 0.45) / width, 0.3 / height, words, color=MUTED, fontsize=7.8)
        heading(figure, title, subtitle)
    return figure
