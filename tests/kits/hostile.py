"""Names that would steer a terminal, a page, a figure or a table, and what to look for where they were shown."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

from fer_cli.artifacts import protocol, summaries
from fer_cli.artifacts.artifact import Artifact
from fer_cli.artifacts.manifest import Manifest, read_manifest
from fer_cli.artifacts.sections import Section
from fer_cli.core.errors import FerError
from fer_cli.datasets.records import Block
from tests.kits.toy import Toy

NAMES: Final = {
    "colours": "\x1b[31m\x1b[2J",
    "link": "\x1b]8;;http://a.example\x1b\\x\x1b]8;;\x1b\\",
    "line": "one\r\ntwo\nthree\u2028four\x85five",
    "back": "safe\b\b\b\bevil\x07\x00\x9b1m",
    "bidi": "\u202egnp.exe\u2066a\u2069",
    "invisible": "a\u200bb\u200d\ufeffc\u00ad",
    "markup": "[red]x[/] [/nothing] [link=a]b :smile:",
    "script": "</script><script>alert(1)</script></title></style><!--",
    "handler": "\"><img src=x onerror=alert(1)>' onload='&amp;",
    "attribute": 'data:image/png;base64,AAAA" style="fill: #1b1d22" url(#a)',
    "tex": "$x_1$ \\input{a} 100% #1 {~^} & \\\\ --",
    "option": "[2cm] *",
    "table": "a|b `c` **d** <e> ~f~ _g_",
    "formula": '=HYPERLINK("http://a.example";"b")',
    "hidden": "_hidden",
    "mixed": "笑い😀 e\u0301\u0301\u0301",
    "right to left": "שלום עולם 12",
    "long": "n" * 3000,
}
"""What it attacks -> a name."""
ALL: Final = " ".join(name for kind, name in NAMES.items() if kind != "long")
SURROGATE: Final = "lone \ud800"
"""Cannot be written in UTF-8: a JSON escape or a file's name can bring it."""
_FIXED: Final = {"schema", "kind", "name", "version", "content", "seal", "sha256", "path", "blocks"}


class HostileToy(Toy):
    """A data set whose classes, ids and subjects are hostile."""

    def __init__(self, images: int = 90) -> None:
        super().__init__(images=images, grey=True, seed=0, classes=tuple(NAMES.values()))

    def blocks(self) -> Iterator[Block]:
        for block in super().blocks():
            names = itertools.cycle(NAMES.values())
            rows = [
                replace(row, id=f"{name[:300]} {row.id}", subject=row.label[:40])
                for row, name in zip(block.rows, names, strict=False)
            ]
            yield Block(tuple(rows), block.images)


def steering(text: str) -> set[str]:
    """Return the characters of what was printed that a terminal does not show but obeys."""
    return {char for char in text if not char.isprintable() and char != "\n"}


class HostilePage(HTMLParser):
    """A page that is read strictly: every tag closed in order, no script, no handler, nothing from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open
        assert not steering(text.replace("\u200e", "")), steering(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in {"meta", "img"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "object", "link", "base", "form"}
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in {"src", "href", "xlink:href"} or (value or "").startswith(
                ("#", "data:image/png;base64,")
            )

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def words(self) -> str:
        """Return the page's text."""
        return " ".join(" ".join(self.text).split())


def changed_by_hand(artifact: Artifact, text: str) -> int:
    """Put a text into every place of a manifest, as key too, that is still read with it, and seal it again.

    Returns:
        How many places took it.
    """
    path = artifact.path / "manifest.json"
    raw = json.loads(path.read_text())
    taken = 0
    for place in list(_places(raw)):
        changed = json.loads(json.dumps(raw))
        table = changed
        for key in place[:-1]:
            table = table[key]
        if isinstance(table[place[-1]], dict):
            table[place[-1]][text] = text
        else:
            table[place[-1]] = text
        if _reads(changed, artifact.path):
            raw, taken = changed, taken + 1
    path.write_bytes(json.dumps(Manifest.model_validate(raw).sealed().model_dump(by_alias=True)).encode())
    assert read_manifest(artifact.path)
    return taken


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        if path:
            yield path
        for key, inner in value.items():
            if key not in _FIXED or path[:1] == ("inputs",):
                yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from _places(inner, (*path, key))
    elif isinstance(value, str):
        yield path


def _reads(raw: dict[str, Any], path: Path) -> bool:
    """Tell whether a manifest is read, and each typed section of it."""
    try:
        artifact = Artifact(path, Manifest.model_validate(raw).sealed())
        for section in _sections(Section):
            if artifact.kind in getattr(section, "kinds", ()):
                section.of(artifact)
    except (FerError, ValueError):
        return False
    return True


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    assert protocol, summaries  # what declares them is imported
    for one in section.__subclasses__():
        yield one
        yield from _sections(one)
