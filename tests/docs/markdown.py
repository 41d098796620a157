"""Reading the documentation: its pages, links, commands and code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
GENERATED: Final = ROOT / "docs" / "reference"
PAGES: Final = sorted(
    path
    for pattern in ("*.md", "assets/**/*.md", "docs/**/*.md", "fer_cli/systems/*/README.md")
    for path in ROOT.glob(pattern)
)

_LINK: Final = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_INLINE: Final = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


@dataclass(frozen=True)
class Command:
    """A ``fer`` command that a page shows: the words after ``fer``. In running text it may be less than a whole one."""

    page: Path
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{name(self.page)}: fer {shlex.join(self.words)}"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def links(page: Path) -> list[str]:
    return [first or second for first, second in _LINK.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result


def inline_code(page: Path) -> list[str]:
    return [" ".join(code.split()) for code in _INLINE.findall(prose(page))]


def shell_lines(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Yield every simple command of a page as words, without settings before it, and whether it is of a shell block."""
    texts = [(line, True) for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    texts += [(code, False) for code in inline_code(page) if code.startswith(("fer ", "torchrun ", "uv run fer"))]
    for text, whole in texts:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="&|;>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;>"):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield words, whole
                words = []
            else:
                words.append(word)


def commands(page: Path) -> list[Command]:
    """Return the ``fer`` commands that a page shows."""
    found = []
    for words, whole in shell_lines(page):
        if words[:2] == ["uv", "run"]:
            words = words[2:]  # noqa: PLW2901
        if words[0] == "torchrun" and "fer_cli" in words:
            words = ["fer", *words[words.index("fer_cli") + 1 :]]  # noqa: PLW2901
        if words[0] == "fer":
            found.append(Command(page, tuple(words[1:]), whole))
    return found
