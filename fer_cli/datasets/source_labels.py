"""What the labels of a source mean: its official numbers, names of expressions, and what ``--labels`` gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fer_cli.artifacts.protocol import ClassNumbers
from fer_cli.core.errors import FerError
from fer_cli.core.labels import canonical, code_of, label_map


@dataclass(slots=True)
class SourceLabels:
    """The meaning of labels, and which were met.

    Args:
        title: the data set's name in messages.
        official: the source's numbers -> expressions.
        classes: the expressions that it may have; by default those of its numbers.
        option: what the user gave as ``--labels``. Where it gives a number, the official numbers count for nothing.

    Raises:
        FerError: ``option`` is malformed, or gives an expression that the data set does not have.
    """

    title: str
    official: Mapping[str, str]
    option: str | None = None
    classes: tuple[str, ...] = ()
    numbers: dict[str, str] = field(default_factory=dict)  # those that were met -> expressions
    numbering: ClassNumbers | None = None  # what shows their order, once the counts are known
    _given: dict[str, str] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.classes = self.classes or tuple(self.official.values())
        self._given = {} if self.option is None else label_map(self.option)
        if strange := [name for name in self._given.values() if name not in self.classes]:
            raise FerError(
                f"--labels: {self.title} has no {strange[0]}", hint=f"its expressions are {', '.join(self.classes)}"
            )

    @property
    def given_numbers(self) -> bool:
        """Whether the user said what the numbers mean."""
        return any(code.isdecimal() for code in self._given)

    @property
    def codes(self) -> frozenset[str]:
        """The numbers and other codes that mean an expression."""
        return frozenset({*self.official, *self._given})

    @property
    def config(self) -> dict[str, dict[str, str]]:
        """What was given, for the artifact's version; empty where nothing was."""
        return {"labels": self._given} if self._given else {}

    def meaning(self, text: str, *, names: bool = True) -> str | None:
        """Return the expression that a label of the source means, or None.

        Args:
            text: a number, or a name.
            names: whether names of expressions are labels of this source too.
        """
        code = code_of(text)
        if code in self._given:
            self._used.add(code)
            label: str | None = self._given[code]
        elif code.isdecimal():
            label = None if self.given_numbers else self.official.get(text)
        else:
            label = canonical(text) if names else None
        if label is None or label not in self.classes:
            return None
        if code.isdecimal():
            self.numbers[code] = label
        return label

    def gives(self, text: str) -> bool:
        """Return whether the user said what a label means."""
        return code_of(text) in self._given

    def check_used(self) -> list[str]:
        """Return a warning where some of what was given names nothing.

        Raises:
            FerError: all of it names nothing.
        """
        unused = [code for code in self._given if code not in self._used]
        if not unused:
            return []
        if len(unused) == len(self._given):
            raise FerError("--labels names none of the labels in this source", hint="omit it, or give its labels")
        return [f"--labels: no image is labelled {', '.join(unused)}"]
