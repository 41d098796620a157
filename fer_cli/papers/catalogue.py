"""Every table, figure and setting of the four papers: the facts, and what fer runs for each row.

The data are ``PAPER.toml`` beside this module. Numbers are as printed; no sentence of a paper is in them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fer_cli.core.errors import UsageError

PAPERS: Final = ("ahm", "conv-cut", "psa-resnet", "slfer")
SCALES: Final = ("laptop", "gpu", "paper")
ScaleName = Literal["laptop", "gpu", "paper"]
Measure = Literal["train", "ahm", "recall", "recipe", "hierarchy", "counts", "picture", "none"]
Setting = bool | int | float | str | tuple[int, ...]
Settings = dict[str, Setting]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Strict):
    """What a row could mean besides, or its control; its value in the paper is the row's.

    ``settings`` stand in place of the row's. ``batching`` is how images are scored, ``parser`` whose masks are used.
    """

    name: str
    settings: Settings
    batching: Literal["alone", "stored", "shuffled", "sorted"] | None = None
    parser: str | None = None


class Count(_Strict):
    """Which number of a data set a row is: its images, those of a split or of a class in it, or its subjects."""

    dataset: str | None = None
    split: Literal["train", "validation", "test"] | None = None
    expression: str | None = Field(default=None, alias="class")
    of: Literal["images", "subjects"] = "images"


class Row(_Strict):
    """A row. ``value`` is None where the paper has no figure in its text; ``cited`` ones are of other works.

    ``settings`` are those that the row stands for, by key of the recipe (of ahm: ``backbone``); None where fer runs
    nothing for it.
    """

    name: str
    value: int | float | str | None = None
    kind: Literal["own", "cited"]
    settings: Settings | None = None
    count: Count | None = None
    expression: str | None = Field(default=None, alias="class")
    note: str = ""
    variants: tuple[Variant, ...] = ()


class PicturedModel(_Strict):
    """A model of a figure."""

    name: str
    settings: Settings


class Entry(_Strict):
    """A table, a figure or a list of settings, of one data set.

    ``place`` is what the paper calls it and several entries share: ``table2``. ``stand_in`` is the data set that takes
    the place of one that is not there; ``test_part`` is the part of the source that the figures are of, where it is not
    the source's test part. ``paper`` and ``system`` are those of the file that it stands in.
    """

    paper: str
    system: str
    id: str
    place: str
    kind: Literal["table", "figure", "setting"]
    title: str
    dataset: str | None = None
    stand_in: str | None = None
    test_part: str | None = None
    measure: Measure
    metric: Literal["accuracy", "macro_f1"] | None = None
    unit: str
    picture: str | None = None
    note: str = ""
    rows: tuple[Row, ...] = ()
    models: tuple[PicturedModel, ...] = ()

    @property
    def reference(self) -> str:
        """What ``fer reproduce`` takes."""
        return f"{self.paper}/{self.id}"

    @model_validator(mode="after")
    def _is_whole(self) -> Entry:
        if self.measure in {"train", "ahm"} and self.metric is None:
            raise ValueError(f"{self.id}: no metric")
        if (self.measure == "picture") != (self.picture is not None):
            raise ValueError(f"{self.id}: a picture has a kind, nothing else has")
        names = [row.name for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.id}: two rows of one name")
        return self


class Scale(_Strict):
    """How large a run is: the recipe, what is changed in it, and a stated rate for a first estimate of the time.

    ``recipes`` are those of data sets that have their own. ``replace`` maps ``KEY=VALUE`` of a row to another,
    where the scale has another network. ``least_size`` is the smallest image that a network takes, by its name, in px:
    its rows have that where the scale's are smaller. The rates are of training; of features that are computed once, of
    their computation, and ``cached_images_per_second`` of training on them.
    """

    recipe: str | None = None
    recipes: dict[str, str] = {}
    parser: str | None = None
    settings: Settings = {}
    replace: dict[str, str] = {}
    least_size: dict[str, int] = {}
    images_per_second: float = Field(gt=0)
    cached_images_per_second: float | None = Field(default=None, gt=0)


class Difference(_Strict):
    """In what every run differs from the paper, and no key of a recipe tells.

    ``decisive``: no value is comparable. ``of_pretrained_features``: it is none where the features are of a network
    that was trained for expressions.
    """

    what: Literal["data", "protocol", "setting"]
    text: str
    decisive: bool = False
    of_pretrained_features: bool = False


class Paper(_Strict):
    """A paper."""

    id: str
    title: str
    authors: str
    system: str
    scales: dict[ScaleName, Scale]
    differences: tuple[Difference, ...]
    entries: tuple[Entry, ...]


@cache
def paper(name: str) -> Paper:
    """Return a paper by its name."""
    values = tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))
    of = {"paper": values["paper"]["id"], "system": values["paper"]["system"]}
    entries = [of | entry for entry in values["entries"]]
    return Paper.model_validate({**values.pop("paper"), **values, "entries": entries})


def entries() -> list[Entry]:
    """Return all entries, in the order of the papers."""
    return [entry for name in PAPERS for entry in paper(name).entries]


def find(reference: str) -> Sequence[Entry]:
    """Return the entries of ``PAPER``, ``PAPER/PLACE`` (of all data sets) or ``PAPER/ID``.

    Raises:
        UsageError: there is none.
    """
    name, _, place = reference.partition("/")
    if name not in PAPERS:
        raise UsageError(f"no paper {name!r}", hint=f"take {', '.join(PAPERS)}; 'fer reproduce' lists what they hold")
    known = paper(name).entries
    found = [entry for entry in known if entry.id == place] or [entry for entry in known if place in {"", entry.place}]
    if not found:
        places = ", ".join(dict.fromkeys(entry.place for entry in known))
        raise UsageError(f"{name} has no {place!r}", hint=f"take {places}; 'fer reproduce' lists them")
    return found
