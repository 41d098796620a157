"""Pictures whose file names say what they show: JAFFE, KDEF, RaFD, or a pattern of the user's."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final

from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError
from fer_cli.datasets.image_files import SUFFIXES, portable, refuse, walk
from fer_cli.datasets.image_list import WHOLE, ImageEntry
from fer_cli.datasets.leftovers import find_unread
from fer_cli.datasets.listing import ClassNames, Listing, in_id_order
from fer_cli.datasets.spelling import Spellings
from fer_cli.datasets.split_names import split_of_name

_SUFFIX: Final = r"\.(?i:tiff?|jpe?g|png|bmp)"
PATTERNS: Final = {
    "jaffe": rf"(?P<subject>[A-Z]{{2}})\.(?P<label>[A-Z]{{2}})\d+\.\d+{_SUFFIX}",
    "kdef": rf"(?P<session>[AB])(?P<subject>[FM]\d\d)(?P<label>[A-Z]{{2}})(?P<pose>FL|HL|S|HR|FR){_SUFFIX}",
    "rafd": r"Rafd(?P<pose>\d+)_(?P<subject>\d+)_\w+?_(?:fe)?male_(?P<label>[a-z]+)_(?P<gaze>frontal|left|right)"
    + _SUFFIX,
}
"""Data set -> how the names of its images are made, whatever they were converted to: JAFFE, KDEF and RaFD."""
_LONGEST: Final = 1000  # characters of a pattern
_DEPTH: Final = 8  # names in the path of an image whose label stands in its name


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of file names.

    Raises:
        FerError: it is none, or has no group ``label``.
    """
    hint = f"give {', '.join(PATTERNS)}, or an expression such as '(?P<subject>\\w+)_(?P<label>[A-Z]+)\\.jpg'"
    if len(pattern) > _LONGEST:
        raise FerError(f"--pattern is longer than {_LONGEST:,} characters", hint=hint)
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise FerError(f"--pattern {pattern[:80]!r} is not a regular expression: {error}", hint=hint) from None
    if "label" not in compiled.groupindex:
        raise FerError(f"--pattern {pattern[:80]!r} has no group (?P<label>...)", hint=hint)
    return compiled


def list_flat(root: Path, pattern: re.Pattern[str], names: ClassNames) -> Listing:
    """List the pictures whose names a pattern matches, in whatever folders they lie.

    Raises:
        FerError: no name matches, or one that does has a label or a split that is unknown.
    """
    items: list[ImageEntry] = []
    faults: list[FerError] = []
    parts: dict[str, SplitName] = {}
    subjects, sequences = Spellings("subject"), Spellings("sequence")
    whole = "/" in pattern.pattern
    for path in walk(root, _DEPTH):
        text = portable(path)
        match = pattern.fullmatch(text if whole else PurePosixPath(text).name)
        if PurePosixPath(text).suffix.lower() in SUFFIXES and match is not None:
            groups = {name: value for name, value in match.groupdict().items() if value}
            label, part = names.meaning(groups.pop("label", "")), groups.pop("split", None)
            split = None if part is None else split_of_name(part)
            if label is None or (part is not None and split is None):
                bad_split = f"unknown split {part!r}", "use train or test"
                what, hint = names.fault(match["label"] or "") if label is None else bad_split
                faults.append(FerError(what, hint=hint, path=root / path))
                continue
            if split is not None:
                parts[split] = split
            has = pattern.groupindex
            subject = subjects.of(groups.pop("subject", None)) if "subject" in has else None
            sequence = sequences.of(groups.pop("sequence", None)) if "sequence" in has else None
            flags = tuple(f"{name}={value}" for name, value in sorted(groups.items()))
            items.append(ImageEntry(path, split, label, subject=subject, sequence=sequence, id=text, flags=flags))
    refuse(faults)
    if not items:
        first = next((portable(path) for path in walk(root, _DEPTH) if Path(path).suffix.lower() in SUFFIXES), None)
        what = "holds no images" if first is None else f"no name of an image matches --pattern; the first is {first!r}"
        raise FerError(what, hint=f"it is held against the whole {'path' if whole else 'file name'}", path=root)
    unread = find_unread(root, [root / item.path for item in items])
    remarks = [*subjects.remarks(), *sequences.remarks()]
    return Listing(in_id_order(items), parts or {WHOLE: "train"}, unread.leftovers(), remarks=remarks)
