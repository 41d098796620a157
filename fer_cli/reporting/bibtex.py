"""Citations as BibTeX. Every text is escaped: other packages add entries."""

from __future__ import annotations

from collections.abc import Iterable

from fer_cli.core.citations import Citation
from fer_cli.reporting.tables import for_latex


def bibtex(citations: Iterable[Citation]) -> str:
    """Return entries as a file of BibTeX; capitals of titles stay, and every text is printed as it stands."""
    return "\n".join(map(_entry, citations))


def _entry(one: Citation) -> str:
    fields = {
        "title": f"{{{for_latex(one.title)}}}",
        "author": " and ".join(_author(author) for author in one.authors),
        **({} if one.year is None else {"year": str(one.year)}),
        **{name: text if name == "doi" else for_latex(text) for name, text in one.more.items()},
    }
    width = max(map(len, fields))
    kind = "misc" if one.kind == "software" else one.kind  # BibTeX's own styles know no software
    lines = [f"  {name.ljust(width)} = {{{text}}}," for name, text in fields.items()]
    return "\n".join([f"@{kind}{{{one.key},", *lines, "}", ""])


def _author(name: str) -> str:
    """Return an author; braces round a whole name keep it whole."""
    whole = name.startswith("{") and name.endswith("}")
    return f"{{{for_latex(name[1:-1])}}}" if whole else for_latex(name)
