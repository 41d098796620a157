"""``fer watch``, and what ``fer ls --running`` shows: the work under way in a store."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fer_cli.cli.common import Output, console, plain, print_table, say
from fer_cli.cli.options import command
from fer_cli.core.errors import FerError
from fer_cli.core.format import clock

if TYPE_CHECKING:
    from rich.table import Table

    from fer_cli.artifacts.heartbeat import Running
    from fer_cli.artifacts.running import State
    from fer_cli.artifacts.store import Store

    Work = Sequence[tuple[Running, State]]

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS: Final = ".:-=+*#@"
_LONGEST: Final = 48
"""Epochs that a curve shows at most; of more, each character is the last of several."""
_HEADS: Final = {"reference": "left", "state": "left", "done": "right", "rate": "right", "left": "right", "now": "left"}


@command("watch")
def watch(
    store: Store,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only work on artifacts of these names.")
    ] = None,
    every: Annotated[float, typer.Option("--every", help="Seconds between two looks.", min=0.2)] = 2.0,
) -> Output:
    """Follow the work under way in a store until it ends, on this machine or on another one that sees the store.

    Each training has its curves. On a terminal the screen is renewed; elsewhere a line is printed for each change.
    Silent is what was not heard of for two minutes: it waits for something, or is stuck. Ctrl-C ends the look alone.
    """
    from fer_cli.artifacts.running import running_work

    def look() -> Work:
        return [one for one in running_work(store) if not names or any(_is_of(one[0], name) for name in names)]

    work = look()
    for name in names or ():
        if not any(_is_of(running, name) for running, _ in work):
            there = ", ".join(running.name for running, _ in running_work(store))
            raise FerError(f"no work is under way on {name!r}", hint=f"there is work on {there or 'nothing'}")

    def show() -> None:
        if not work:
            say(f"nothing is under way in {store.root}")
        else:
            with suppress(KeyboardInterrupt):  # the way to end a look
                if sys.stdout.isatty():
                    _follow_on_screen(store, look, every)
                else:
                    _follow_in_lines(look, every)

    return Output({"running": [as_json(store, one) for one in work]}, show)


def _is_of(running: Running, name: str) -> bool:
    """Tell whether work is on an artifact of a name, or on a run of a study of that name."""
    return running.name == name or running.name.startswith((f"{name}-seed", f"{name}-fold"))


def as_json(store: Store, one: tuple[Running, State]) -> dict[str, Any]:
    """Return one piece of work as ``--json`` prints it, a training with what it measured so far."""
    running, state = one
    more = {"rate": running.rate, "left": running.left, "state": state}
    return {**running.record(), **more, "history": _history(store, running)}


def running_output(store: Store) -> Output:
    """Return what ``fer ls --running`` prints."""
    from fer_cli.artifacts.running import running_work

    work = running_work(store)

    def show() -> None:
        if not work:
            say(f"nothing is under way in {store.root}")
        else:
            print_table(_HEADS, [_cells(*one) for one in work], wrap=("now",), fold={"reference": 24}, drop=("rate",))

    return Output({"running": [as_json(store, one) for one in work]}, show)


def _cells(running: Running, state: State) -> list[str]:
    unit = running.unit
    done = "" if unit is None else f"{running.done:,.0f}{'' if running.total is None else f'/{running.total:,.0f}'}"
    if running.total:
        done = f"{running.done / running.total:.0%}" if unit is None else done
    rate = "" if running.rate is None or unit is None else f"{running.rate:,.1f} {unit}/s"
    left = "" if running.left is None or state != "running" else clock(running.left)
    heard = "" if state == "running" else f"heard of {clock(time.time() - running.heard)} ago, on {running.host}"
    now = ", ".join(part for part in (running.title, running.status, heard) if part)
    return [f"{running.name}@{running.version[:6]}", state, done, rate, left, now]


def _history(store: Store, running: Running) -> list[dict[str, float]]:
    from fer_cli.artifacts.running import work_directory
    from fer_cli.training.history import HISTORY

    directory = work_directory(store, running)
    file = None if directory is None else directory / HISTORY
    if file is None or not file.is_file():
        return []
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]


def _follow_on_screen(store: Store, look: Callable[[], Work], every: float) -> None:
    from rich.live import Live

    with Live(console=console(), refresh_per_second=4, redirect_stdout=False) as live:
        while work := look():
            live.update(_screen(store, work))
            if all(state == "stopped" for _, state in work):
                break
            time.sleep(every)


def _screen(store: Store, work: Work) -> Table:
    from rich.table import Table

    screen = Table.grid(padding=(0, 0))
    for running, state in work:
        name, _, done, rate, left, now = _cells(running, state)
        style = {"running": "green", "silent": "yellow", "stopped": "red"}[state]
        parts = [done, rate, f"{left} left" if left else ""]
        screen.add_row(plain(name, "bold") + plain(f"  {state}", style) + plain("".join(f"  {p}" for p in parts if p)))
        screen.add_row(plain(f"  {now}", "dim"))
        for line in curves(_history(store, running)):
            screen.add_row(plain(f"  {line}"))
    return screen


def curves(history: Sequence[dict[str, float]]) -> list[str]:
    """Return a line each for the losses, the validation accuracy and the balanced one: a curve and its last value."""
    if not history:
        return []
    shown = {
        "training loss": ("train_loss", False),
        "validation loss": ("validation_loss", False),
        "accuracy": ("accuracy", True),
        "balanced accuracy": ("balanced_accuracy", True),
    }
    width, lines = max(map(len, shown)), []
    for label, (key, is_share) in shown.items():
        values = [line[key] for line in history]
        best = max(values) if is_share else min(values)
        form = "{:.1%}" if is_share else "{:.3f}"
        epoch = values.index(best) + 1
        lines.append(
            f"{label:<{width}}  {curve(values)}  {form.format(values[-1])}, best {form.format(best)} at epoch {epoch}"
        )
    return lines


def curve(values: Sequence[float]) -> str:
    """Return a line of characters whose heights are the values between their least and their most."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    levels = _LEVELS if encoding.lower().startswith("utf") else _ASCII_LEVELS
    step = math.ceil(len(values) / _LONGEST)
    kept = [values[min(at + step, len(values)) - 1] for at in range(0, len(values), step)]
    low, high = min(kept), max(kept)
    span = (high - low) or 1.0
    return "".join(levels[min(len(levels) - 1, int((value - low) / span * len(levels)))] for value in kept)


def _follow_in_lines(look: Callable[[], Work], every: float) -> None:
    told: dict[str, list[str]] = {}
    while work := look():
        for running, state in work:
            cells = _cells(running, state)
            if told.get(running.reference) != cells:
                told[running.reference] = cells
                _, state_word, done, rate, left, now = cells
                parts = [state_word, done, rate, f"{left} left" if left else "", now]
                say(f"{cells[0]}: {', '.join(part for part in parts if part)}")
        if all(state == "stopped" for _, state in work):
            return
        time.sleep(every)
