"""Stage ``plot``: an artifact in, one picture out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_cli.artifacts.store import Store
from fer_cli.core.errors import UsageError
from fer_cli.datasets.folder import safe_name
from fer_cli.plots.registry import PLOTS, plot_of


def plot(*, store: Store, what: str, out: Path | None = None, **options: Any) -> Path:  # noqa: ANN401 - a plot's own
    """Draw one picture and return the path of its file.

    Args:
        store: where artifacts are.
        what: one of :data:`fer_cli.plots.registry.PLOTS`.
        out: the file, PNG, SVG or PDF by its suffix; ``./fer-<what>-<name>.png`` where it is None.
        options: of the plot.

    Raises:
        UsageError: no such plot, or another suffix.
    """
    from fer_cli.reporting.style import FORMATS, save_figure

    if what not in PLOTS:
        raise UsageError(f"no plot {what!r}", hint=f"choose one of {', '.join(PLOTS)}")
    if out is not None and out.suffix.lower() not in FORMATS:  # before minutes of work, not after
        raise UsageError(
            f"--out {out}: unknown suffix {out.suffix!r}" if out.suffix else f"--out {out} has no suffix",
            hint=f"end it in one of {', '.join(FORMATS)}",
        )
    picture = plot_of(what)(store, **options)
    return save_figure(picture.figure, out or Path(f"fer-{what}-{safe_name(picture.name) or 'unnamed'}.png"))
