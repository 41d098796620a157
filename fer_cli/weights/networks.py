"""Names of the networks that weights are of: timm's, as its source registers them, and ours."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

from fer_cli.core.errors import FerError

FACE_RESNET: Final = "face_resnet29"
"""The network that is ours and not timm's (:mod:`fer_cli.models.face_resnet`)."""
_REGISTERED: Final = re.compile(r"^@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)\(", re.MULTILINE)
_RENAMED: Final = re.compile(r"register_model_deprecations\(__name__, \{(.*?)\}\)", re.DOTALL)
_OLD_NAME: Final = re.compile(r"""^\s*['"]([^'"]+)['"]\s*:""", re.MULTILINE)


def check_architecture(name: str) -> None:
    """Refuse a name that timm does not know, without importing it: a tag is not looked at.

    Raises:
        FerError: there is no such network.
    """
    architecture = name.partition(".")[0]
    known = architectures()
    if architecture in known:
        return
    if not known or "timm" in sys.modules:  # its source is not here, or a program has added networks of its own
        import timm

        if timm.is_model(name):
            return
        known = frozenset(timm.list_models())
    close = difflib.get_close_matches(name.rpartition("/")[2].partition(".")[0].lower(), sorted(known), n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() names them"
    raise FerError(f"timm has no backbone {name!r}", hint=hint)


@cache
def architectures() -> frozenset[str]:
    """Return the names of timm's networks and ours, old names too, as timm's source registers them.

    To import timm takes seconds, a minute on a busy machine, and a misspelt name should not wait for that.
    """
    package = importlib.util.find_spec("timm")
    folders = [] if package is None else list(package.submodule_search_locations or ())
    names: set[str] = set()
    for path in (path for folder in folders for path in (Path(folder) / "models").glob("**/*.py")):
        text = path.read_text(encoding="utf-8")
        names.update(_REGISTERED.findall(text))
        names.update(name for block in _RENAMED.findall(text) for name in _OLD_NAME.findall(block))
    return frozenset({FACE_RESNET, *names} if names else ())
