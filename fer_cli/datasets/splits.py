"""Splits: what the parts of a source become, how a missing one is carved, and the hash that names the result."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.protocol import PartRole
from fer_cli.artifacts.sections import SplitName
from fer_cli.core.errors import FerError
from fer_cli.datasets.records import SPLITS

FEW_OF_A_CLASS: Final = 3
"""Images of a class in a split below which nothing is known of it."""
MIN_SHARE: Final = 1e-6
"""The smallest share that can be held out: one of a million images."""


@dataclass(frozen=True, slots=True)
class Roles:
    """What the parts of a source are used for; the fields are those of ``records.LoadReport``."""

    split_of: dict[str, str]
    parts: list[PartRole]
    carve_validation: bool
    carve_test: bool


def assign_roles(parts: Mapping[str, SplitName]) -> Roles:
    """Decide what each part of a source is used for, so that nothing is chosen on what is reported.

    A source without a test part reports on its validation part, and validation is then held out from training. A source
    without any training part (it only scores models) is not carved.

    Args:
        parts: the source's name of each part that has rows -> the split it is by its name.
    """
    promotes = "test" not in parts.values()
    split_of: dict[str, SplitName] = {
        part: "test" if promotes and split == "validation" else split for part, split in parts.items()
    }
    trains = "train" in split_of.values()
    carved = tuple(name for name in SPLITS if trains and name not in split_of.values())
    roles = [
        PartRole(part=part, use=use, carved=carved if use == "train" else (), promoted=use != parts[part])
        for part, use in split_of.items()
    ]
    return Roles(dict(split_of), roles, "validation" in carved, "test" in carved)


def count_differences(found: Mapping[str, Mapping[str, int]], expected: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Compare the rows of each part and class with the official ones; one short phrase for each part that differs.

    Args:
        found: part -> class -> rows.
        expected: the same, as published.
    """
    differences = []
    for part, classes in expected.items():
        have = found.get(part, {})
        rows, total = sum(have.values()), sum(classes.values())
        if total and not rows:
            differences.append(f"{part} is missing ({total:,} rows)")
            continue
        names = [name for name in dict.fromkeys([*classes, *have]) if have.get(name, 0) != classes.get(name, 0)]
        if names:
            listed = ", ".join(f"{name} {have.get(name, 0):,} of {classes.get(name, 0):,}" for name in names[:3])
            more = f", {len(names) - 3} more" if len(names) > 3 else ""
            differences.append(f"{part} has {rows:,} of {total:,} rows ({listed}{more})")
    return differences


def duplicate_groups(pixel_hashes: Sequence[str], subjects: Sequence[str | None] | None = None) -> list[str]:
    """Return for every row the name of its group: rows with equal pixels, or of one subject, are in one group.

    Links chain: a duplicate that two subjects share joins all rows of both. The name is the smallest pixel hash in the
    group, so it depends neither on the order of the rows nor on their number.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    hashes = [("pixels", value) for value in pixel_hashes]
    if subjects is not None:
        for node, subject in zip(hashes, subjects, strict=True):
            if subject is not None:
                parent[root(node)] = root(("subject", subject))
    smallest: dict[tuple[str, str], str] = {}
    for node in hashes:
        top = root(node)
        smallest[top] = min(smallest.get(top, node[1]), node[1])
    return [smallest[root(node)] for node in hashes]


def units_of(subjects: Sequence[str | None], sequences: Sequence[str | None]) -> list[str | None] | None:
    """Return who or what each image must stay together with; None where that is known of no image.

    Where nobody says who is pictured, the frames of a sequence are of one person at least.
    """
    films = [None if film is None else f"sequence {film}" for film in sequences]
    units = [film if person is None else person for person, film in zip(subjects, films, strict=True)]
    return units if any(units) else None


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Return names in an order that only ``seed`` and they themselves decide, not the order they come in."""
    return sorted(names, key=lambda name: hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest())


def check_groups(labels: Sequence[str], groups: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse to carve splits from a class that cannot have an image in each, before any is carved.

    Args:
        labels: (N,) class names.
        groups: (N,) as from :func:`duplicate_groups`.
        splits: those that must have an image of every class, in words.

    Raises:
        FerError: a class has fewer groups than there are splits.
    """
    members: defaultdict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        members[label].add(group)
    images = Counter(labels)
    for label in sorted(members, key=lambda name: (len(members[name]), name)):
        if (independent := len(members[label])) < len(splits):
            number = f"{images[label]:,} image{'' if images[label] == 1 else 's'}"
            if independent != images[label]:
                number += f", {independent:,} of them independent (of other pixels, subjects and sequences)"
            raise FerError(
                f"class {label!r} has {number}, and {', '.join(splits[:-1])} and {splits[-1]} need one each",
                hint="add images of that class, leave it out, or give a source that has these splits",
            )


def class_warnings(labels: Sequence[str], splits: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Say which classes are absent from a split, or have too few images there to measure anything.

    Args:
        labels: (N,) class names.
        splits: (N,) names of splits.
        classes: every class of the data set.
    """
    if len(set(labels)) < 2:
        return [f"all images are of one class, {labels[0]}: there is nothing to learn, and training refuses them"]
    counted = Counter(zip(splits, labels, strict=True))
    warnings = []
    for split in (name for name in SPLITS if name in set(splits)):
        if absent := [name for name in classes if not counted[split, name]]:
            effect = "training refuses it" if split == "train" else "nothing is measured of it there"
            warnings.append(f"{split} has no {', '.join(absent)}: {effect}")
        few = [f"{counted[split, name]} of {name}" for name in classes if 0 < counted[split, name] < FEW_OF_A_CLASS]
        if few:
            effect = "too few to learn" if split == "train" else "too few to measure anything"
            warnings.append(f"{split} has images: {', '.join(few)}: {effect}")
    return warnings


def carve(labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose about ``fraction`` of the rows of every class, groups kept whole.

    The groups come in an order that only ``seed`` and their names decide. Each is taken, and later given back, when
    that brings the chosen shares closer to ``fraction`` (squared deviations relative to each class's target, summed:
    a rare class counts as much as a common one), until no single group can better the sum. With groups of one class
    each, a class ends within half of its largest group of the target, but never with no row on either side.

    Args:
        labels: (N,) class names.
        groups: (N,) names that do not depend on the order of the rows, as from :func:`duplicate_groups`.
        fraction: in (0, 1).
        seed: any whole number.

    Returns:
        (N,) True for the rows of the new split.

    Raises:
        FerError: a class has fewer than two groups, so it cannot be on both sides.
    """
    if not 0 < fraction < 1:
        raise FerError(f"the share to hold out is {fraction}", hint="choose one between 0 and 1")
    members: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        members[group][label] += 1
    group_count = Counter(label for counts in members.values() for label in counts)
    for label in sorted(group_count, key=lambda name: (group_count[name], name)):
        if group_count[label] < 2:
            raise FerError(
                f"class {label!r} has only one independent image or subject: no split can be held out from it",
                hint="add data of that class, or give a source that has this split",
            )
    order = shuffled(members, seed)
    target = {label: fraction * count for label, count in Counter(labels).items()}
    chosen: set[str] = set()
    taken: Counter[str] = Counter()  # rows of a class
    inside: Counter[str] = Counter()  # groups of a class

    def gain(group: str, sign: int) -> float:
        """Return the change in the summed deviation if ``group`` went in (1) or out (-1)."""
        return sum(
            n * (n + 2 * sign * (taken[label] - target[label])) / target[label] ** 2
            for label, n in members[group].items()
        )

    def move(group: str, sign: int) -> None:
        chosen.symmetric_difference_update((group,))
        for label, n in members[group].items():
            taken[label] += sign * n
            inside[label] += sign

    def leaves_one(group: str) -> bool:
        """Tell whether the side that ``group`` stands on keeps another group of each of its classes."""
        side = inside if group in chosen else group_count - inside
        return all(side[label] > 1 for label in members[group])

    moved = True
    while moved:  # ends: each move lowers the sum
        moved = False
        for group in order:
            sign = -1 if group in chosen else 1
            if gain(group, sign) < -1e-12 and leaves_one(group):
                move(group, sign)
                moved = True
    for label in sorted(group_count, key=lambda name: (group_count[name], name)):
        if inside[label]:
            continue
        spare = [group for group in order if label in members[group] and leaves_one(group)]
        if not spare:
            raise FerError(
                f"class {label!r} cannot be on both sides of a split that keeps subjects and duplicates whole",
                hint="add data of that class, or give a source that has this split",
            )
        move(min(spare, key=lambda group: gain(group, 1)), 1)
    return np.array([group in chosen for group in groups], dtype=np.bool_)


def random_frames(
    ids: Sequence[str], train: int, test: int, seed: int, labels: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """Choose ``test`` of every ``train + test`` images at random, whatever subject or sequence they are of.

    That leaks: a frame of a film says what the next one holds. Papers split CK+ this way, and it is here to show it.

    Args:
        ids: (N,) of the images.
        train: parts that train.
        test: parts that test.
        seed: any whole number.
        labels: (N,) classes, each of which is split by itself; None: all images together.

    Returns:
        (N,) True for the images of the test split, ``round(N test / (train + test))`` of them, or of each class.
    """
    groups: dict[str, list[str]] = {}
    for name, label in zip(ids, labels or [""] * len(ids), strict=True):
        groups.setdefault(label, []).append(name)
    taken = {
        name for group in groups.values() for name in shuffled(group, seed)[: round(len(group) * test / (train + test))]
    }
    return np.array([name in taken for name in ids], dtype=np.bool_)


def split_hash(ids: Sequence[str], splits: Sequence[str]) -> str:
    """Return the sha256 that names a split: of the lines ``split<TAB>id`` in sorted order, each with a newline.

    Raises:
        ValueError: an id comes twice, or a split is not one of ``records.SPLITS``.
    """
    if len(set(ids)) != len(ids):
        raise ValueError("an id comes twice")
    if unknown := set(splits) - set(SPLITS):
        raise ValueError(f"unknown split {sorted(unknown)[0]!r}")
    lines = sorted(f"{split}\t{name}\n" for name, split in zip(ids, splits, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
