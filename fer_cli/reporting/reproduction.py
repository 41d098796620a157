"""A paper's table beside what was measured, as tables and notes; and a report of a whole paper."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fer_cli.core.format import UNDEFINED
from fer_cli.papers.catalogue import Difference, Entry, Paper, Row
from fer_cli.papers.verdict import MARGIN, VERDICTS, Judged
from fer_cli.reporting.tables import Cell, Page, Side, Table

RULE: Final = (
    "A value is judged where data and settings are the paper's: not reproduced where its 95% interval is below the "
    f"figure, undecided where {MARGIN:g} points of shortfall would have gone unseen. A gain over the first row is "
    "reproduced where it differs from zero with the paper's sign and reaches half of the paper's, not reproduced where "
    "it does not although one as large would have been found (80% power). One seed decides nothing."
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95% interval, in the unit of the table: percent, or percentage points."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gain:
    """A row less the table's first one, in percentage points. ``figure`` is the paper's."""

    figure: float | None
    measured: Interval
    effect: float
    judged: Judged


@dataclass(frozen=True, slots=True)
class ReproducedRow:
    """A row of the paper, or a variant of one, and what was measured of it.

    ``measured`` is a number with its interval, or a fact as text; None where nothing was, and ``why`` says why.
    ``difference`` is measured less the paper's, ``effect`` the minimum detectable one (80% power), ``seconds`` what
    the trainings and the scoring took.
    """

    name: str
    row: Row
    figure: str
    measured: Interval | str | None
    judged: Judged
    difference: float = math.nan
    effect: float = math.nan
    gain: Gain | None = None
    seconds: float | None = None
    evaluation: str | None = None
    unsound: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Deviation:
    """In what a run differs from the paper. ``decisive``: its values are not comparable with the paper's."""

    what: str  # data, protocol or setting
    text: str
    decisive: bool


@dataclass(frozen=True, slots=True)
class Reproduction:
    """An entry of a paper and what was measured. ``dataset`` is the reference of the data set, None where none is used.

    ``stands_in`` says that the data set is not the paper's.
    """

    entry: Entry
    dataset: str | None
    stands_in: bool
    scale: str
    seeds: tuple[int, ...]
    rows: tuple[ReproducedRow, ...]
    deviations: tuple[Deviation, ...]
    pictures: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it is, with the data set that stands in for the paper's."""
        on = ""
        if self.dataset is not None:
            on = f", on {self.dataset}"
            if self.stands_in:
                on += f" in place of {self.entry.dataset} (stand-in data)"
        scale = f", {self.scale} scale" if self.seeds else ""
        return f"{self.entry.reference} {self.entry.title}{on}{scale}"

    @property
    def verdicts(self) -> Counter[str]:
        """How often each verdict was given, to values, gains and facts of the paper's own that were measured."""
        rows = [row for row in self.rows if row.measured is not None]
        counts = Counter[str](row.judged.verdict for row in rows)
        counts.update(row.gain.judged.verdict for row in rows if row.gain is not None)
        return counts


def deviations_of(differences: Sequence[Difference]) -> list[Deviation]:
    """Return what a paper's catalogue names as differences of every run."""
    return [Deviation(one.what, one.text, one.decisive) for one in differences]


def page_of(found: Reproduction) -> Page:
    """Return an entry as tables: values, then gains over the first row where there are any."""
    tables = [_values(found)] if found.rows else []
    if any(row.gain is not None for row in found.rows):
        tables.append(_gains(found))
    if found.deviations:
        tables.append(_deviation_table([(one, "") for one in found.deviations]))
    return Page(
        title=found.title,
        tables=tuple(tables),
        unsound=tuple(dict.fromkeys(f"{row.name}: {text}" for row in found.rows for text in row.unsound)),
        notes=tuple(_notes(found)),
    )


def report_page(paper: Paper, found: Sequence[Reproduction]) -> Page:
    """Return a whole paper as one page: what holds and what does not first, then deviations, then every table."""
    total = sum((one.verdicts for one in found), Counter[str]())
    holds = [_summary_row(one) for one in found]
    tables = [
        Table(
            "What holds and what does not", _columns("entry", "verdicts", "cost", right=("cost",)), tuple(holds), True
        ),
        _deviation_table(list(_deviations(found))),
    ]
    notes = [RULE]
    unsound: list[str] = []
    for one in found:
        page = page_of(replace(one, deviations=()))
        tables += [
            Table(f"{one.title}: {table.title}", table.columns, table.rows, table.wraps) for table in page.tables
        ]
        unsound += page.unsound
        notes += [f"{one.entry.reference}: {note}" for note in page.notes if note != RULE]
    summary = ", ".join(f"{total[verdict]} {verdict}" for verdict in VERDICTS if total[verdict]) or "nothing measured"
    return Page(
        title=f"{paper.authors}: {paper.title}: {summary}",
        tables=tuple(tables),
        unsound=tuple(dict.fromkeys(unsound)),
        notes=tuple(notes),
    )


def _deviation_table(deviations: Sequence[tuple[Deviation, str]]) -> Table:
    """Return a table of deviations, each with the entries that it is of, where these are named."""
    rows = [
        (one.what, one.text, "no" if one.decisive else "yes", *([entries] if entries else []))
        for one, entries in deviations
    ]
    heads = (
        "of",
        "deviation from the paper",
        "values comparable",
        *(["entries"] if any(of for _, of in deviations) else []),
    )
    return Table("deviations", _columns(*heads), tuple(tuple(Cell(text) for text in row) for row in rows), wraps=True)


def _deviations(found: Sequence[Reproduction]) -> Iterator[tuple[Deviation, str]]:
    places: dict[Deviation, list[str]] = {}
    for one in found:
        if any(row.measured is not None for row in one.rows) or one.pictures:
            for deviation in one.deviations:
                places.setdefault(deviation, []).append(one.entry.id)
    for deviation, entries in places.items():
        yield deviation, ", ".join(entries)


def _summary_row(one: Reproduction) -> tuple[Cell, ...]:
    counts = one.verdicts
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    whys = list(dict.fromkeys(row.why for row in one.rows if row.why))
    if not said:
        said = f"not measured: {whys[0]}" if whys else "not measured"
    return Cell(one.title), Cell(said), Cell(cost(one.rows))


def cost(rows: Sequence[ReproducedRow]) -> str:
    """Return what all rows took together."""
    seconds = [row.seconds for row in rows if row.seconds is not None]
    return duration(sum(seconds)) if seconds else ""


def duration(seconds: float) -> str:
    """Return a time as "40 s", "12 min", "3.5 h" or "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _values(found: Reproduction) -> Table:
    unit = {"percent": "%", "share": "%"}.get(found.entry.unit, found.entry.unit)
    rows = [
        (
            Cell(row.name),
            Cell(row.figure),
            Cell(_shown(row.measured), unsound=bool(row.unsound)),
            Cell(signed(row.difference)),
            Cell(plain(row.effect)),
            Cell(row.judged.verdict if row.measured is not None else row.why or "not measured"),
            Cell("" if row.measured is None else row.judged.reason),
            Cell("" if row.seconds is None else duration(row.seconds)),
        )
        for row in found.rows
    ]
    heads = ("row", "paper", "measured", "difference", "MDE", "verdict", "because", "cost")
    if found.entry.measure in {"recipe", "hierarchy", "counts", "none"}:
        facts = tuple((*row[:3], row[5]) for row in rows)
        return Table(unit, _columns("row", "paper", "here", "verdict"), facts, wraps=True)
    return Table(f"values, {unit}", _columns(*heads, right=heads[1:5] + heads[7:]), tuple(rows))


def _gains(found: Reproduction) -> Table:
    rows = [
        (
            Cell(row.name),
            Cell(signed(gain.figure)),
            Cell(_shown(gain.measured, gain=True), unsound=bool(row.unsound)),
            Cell(plain(gain.effect)),
            Cell(gain.judged.verdict),
            Cell(gain.judged.reason),
        )
        for row in found.rows
        if (gain := row.gain) is not None
    ]
    over = "the same features' classifier" if found.entry.measure == "ahm" else f"'{found.rows[0].name}'"
    heads = ("row", "paper", "measured", "MDE", "verdict", "because")
    return Table(f"gains over {over}, points", _columns(*heads, right=heads[1:4]), tuple(rows))


def _notes(found: Reproduction) -> Iterator[str]:
    if found.seeds:
        seeds = ", ".join(map(str, found.seeds))
        yield f"seeds {seeds}; 95% intervals over items and seeds; MDE: minimum detectable effect (80% power)"
    if found.entry.note:
        yield f"paper: {found.entry.note}"
    for row in found.rows:
        if row.row.note and row.name == row.row.name:
            yield f"{row.name}: {row.row.note}"
    for path in found.pictures:
        yield f"picture: {path}"
    if any(isinstance(row.measured, Interval) for row in found.rows):
        yield RULE


def _columns(*names: str, right: Sequence[str] = ()) -> tuple[tuple[str, Side], ...]:
    return tuple((name, "right" if name in right else "left") for name in names)


def _shown(measured: Interval | str | None, *, gain: bool = False) -> str:
    if measured is None:
        return UNDEFINED
    if isinstance(measured, str):
        return measured
    form = signed if gain else plain
    if math.isnan(measured.low + measured.high):
        return form(measured.value)
    return f"{form(measured.value)} [{form(measured.low)}, {form(measured.high)}]"


def plain(number: float | None) -> str:
    """Return a percentage with one decimal."""
    return UNDEFINED if number is None or math.isnan(number) else f"{number:.1f}"


def signed(number: float | None) -> str:
    """Return a difference in points with its sign and one decimal."""
    return UNDEFINED if number is None or math.isnan(number) else f"{number:+.1f}"
