"""Near copies: pairs of pictures that differ in their pixels and show the same, mirrored or not.

A fingerprint of each picture and of its mirror image proposes, where they are given embeddings too, and the aligned
correlation of the pixels decides. Copies that were turned, shifted or scaled further are looked for besides
(:mod:`fer_cli.audit.moved_copies`). All pairs are compared by matrix products, in tiles, so that memory does not grow
with the square of the data set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fer_cli.artifacts.checksums import AnyArray
from fer_cli.audit.fingerprints import fingerprints, odd, small_grey
from fer_cli.audit.registration import aligned_correlation
from fer_cli.core.progress import track

PROPOSED: Final = 0.7
"""Likeness of two fingerprints from which a pair is looked at."""
LIKENESS: Final = 0.9
"""Aligned correlation from which a pair is a near copy."""
MOVED_LIKENESS: Final = 0.94
"""The same for copies that were moved further, in the part of the picture that agrees best."""
NEIGHBOURS: Final = 5
"""Pictures with the most alike embeddings that each is looked at with."""
BLANK: Final = 1.0
"""Standard deviation in grey levels (of 255) below which a picture shows nothing."""
_ROWS: Final = 1024  # of a tile
_COLUMNS: Final = 4096
_READ: Final = 256  # pictures read at once
_PAIRS: Final = 128  # aligned at once


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Near copies among pictures of different pixels, as rows of the data set, ``first < second`` in each pair.

    Of pictures with equal pixels the first alone stands here. ``mirrored``: one shows the other's mirror image.
    ``likeness``: aligned correlation, ``LIKENESS`` to 1. ``blank``: pictures without contrast, which show nothing.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    likeness: NDArray[np.float32]
    blank: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def of_several(self, subjects: Sequence[str | None], splits: Sequence[str]) -> NearCopies:
        """Return these without the pairs of one known person in one split.

        A person's pictures of one session are alike by nature, drawn ones above all; they train nothing twice that
        the subject's own pictures would not, and they cross no border.
        """
        pairs = zip(self.first.tolist(), self.second.tolist(), strict=True)
        kept = [subjects[a] is None or subjects[a] != subjects[b] or splits[a] != splits[b] for a, b in pairs]
        stays = np.array(kept, dtype=np.bool_)
        return NearCopies(self.first[stays], self.second[stays], self.mirrored[stays], self.likeness[stays], self.blank)


def near_copies(
    images: AnyArray,
    pixels: NDArray[np.str_],
    embeddings: AnyArray | None = None,
    groups: NDArray[np.int64] | None = None,
) -> NearCopies:
    """Find the near copies among pictures.

    Args:
        images: (N, H, W) grey or (N, H, W, 3) RGB; a memory map is read in parts.
        pixels: (N,) hashes of the pictures' pixels.
        embeddings: (N, d) of any network: pairs of neighbours are looked at too.
        groups: (N,) pairs of equal numbers are not looked for, of -1 they are: see :func:`groups_of`.
    """
    from fer_cli.audit.moved_copies import moved_copies

    rows = np.sort(np.unique(pixels, return_index=True)[1]).astype(np.int64)
    outside = np.full(len(rows), -1, np.int64) if groups is None else groups[rows]
    prints, blank = [], []
    with track("fingerprints", len(rows)) as advance:
        for start in range(0, len(rows), _READ):
            chunk = rows[start : start + _READ]
            pictures = small_grey(images[chunk])
            prints.append(fingerprints(pictures))
            blank.append(chunk[pictures.std(axis=(1, 2)) < BLANK])
            advance(len(chunk))
    pairs: list[Pairs] = []
    with track("near copies", len(rows)) as advance:
        for first, second, mirrored, done in _proposals(np.concatenate(prints), outside):
            pairs += _decided(images, rows, first, second, mirrored)
            advance(done)
    pairs += moved_copies(images, rows, outside)
    if embeddings is not None:
        first, second = _neighbours(embeddings, rows)
        apart = (outside[first] < 0) | (outside[first] != outside[second])
        first, second = first[apart], second[apart]
        with track("near copies by embeddings", len(first)) as advance:
            for start in range(0, len(first), _ROWS):
                part = slice(start, start + _ROWS)
                for turned in (False, True):
                    marks = np.full(len(first[part]), turned)
                    pairs += _decided(images, rows, first[part], second[part], marks)
                advance(len(first[part]))
    return NearCopies(*_best(rows, pairs), blank=np.concatenate(blank))


def groups_of(subjects: Sequence[str | None], *borders: Sequence[str]) -> NDArray[np.int64]:
    """Return a number (N,) for the pictures of one subject that no border parts, -1 for those without a subject.

    Copies among them are not counted, and pictures of a subject in one session are all alike: it takes long to tell.
    """
    numbers: dict[tuple[str | None, ...], int] = {}
    keys = zip(subjects, *borders, strict=True)
    return np.array([-1 if key[0] is None else numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


Proposals = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], int]


def _proposals(prints: NDArray[np.float32], groups: NDArray[np.int64]) -> Iterator[Proposals]:
    """Yield pairs whose fingerprints are alike, those of mirror images marked, and how many pictures are done with."""
    is_odd = odd()
    even_part, odd_part = np.ascontiguousarray(prints[:, ~is_odd]), np.ascontiguousarray(prints[:, is_odd])
    for top in range(0, len(prints), _ROWS):
        bottom = min(top + _ROWS, len(prints))
        for left in range(top, len(prints), _COLUMNS):
            right = min(left + _COLUMNS, len(prints))
            alike = even_part[top:bottom] @ even_part[left:right].T
            turned = odd_part[top:bottom] @ odd_part[left:right].T  # what a mirror image gains twice, or loses
            pairs = []
            for mirrored in (False, True):
                score = alike - turned if mirrored else alike + turned
                rows, columns = np.nonzero(score >= PROPOSED)
                rows, columns = rows + top, columns + left
                later = (columns > rows) & ((groups[rows] < 0) | (groups[rows] != groups[columns]))
                pairs.append((rows[later], columns[later], np.full(int(later.sum()), mirrored)))
            first, second, marks = (np.concatenate(part) for part in zip(*pairs, strict=True))
            yield first, second, marks, bottom - top if right == len(prints) else 0


def _neighbours(embeddings: AnyArray, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of which one is among the other's nearest by the cosine of what is left without the mean."""
    points = np.asarray(embeddings[rows], dtype=np.float32).reshape(len(rows), -1)
    points -= points.mean(axis=0)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    number = min(NEIGHBOURS, len(rows) - 1)
    if number < 1:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pairs_of_tile = []
    with track("neighbours", len(rows)) as advance:
        for top in range(0, len(rows), _ROWS):
            alike = points[top : top + _ROWS] @ points.T
            queries = np.arange(len(alike))
            alike[queries, queries + top] = -2
            nearest = np.argpartition(-alike, number - 1, axis=1)[:, :number]
            pairs_of_tile.append(np.stack([np.repeat(queries + top, number), nearest.reshape(-1)]))
            advance(len(alike))
    pairs = np.unique(np.sort(np.concatenate(pairs_of_tile, axis=1), axis=0), axis=1)
    return pairs[0], pairs[1]


def _decided(
    images: AnyArray,
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
) -> Iterator[Pairs]:
    """Yield those of the proposed pairs that are near copies; ``first`` and ``second`` are places in ``rows``."""
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        likeness = _decide(images, rows[first[part]], rows[second[part]], mirrored[part])
        sure = likeness >= LIKENESS
        yield first[part][sure], second[part][sure], mirrored[part][sure], likeness[sure]


def _decide(
    images: AnyArray, first: NDArray[np.int64], second: NDArray[np.int64], mirrored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    rows, positions = np.unique(np.concatenate([first, second]), return_inverse=True)
    pictures = np.concatenate([small_grey(images[rows[k : k + _READ]]) for k in range(0, len(rows), _READ)])
    fixed, moving = pictures[positions[: len(first)]], pictures[positions[len(first) :]]
    return aligned_correlation(fixed, np.where(mirrored[:, None, None], moving[:, :, ::-1], moving))


Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]


def _best(rows: NDArray[np.int64], batches: list[Pairs]) -> Pairs:
    """Put pairs in order, those found both as they are and mirrored (a symmetric face) once, as they are more alike."""
    if not batches:
        none = np.empty(0, np.int64)
        return none, none, none.astype(np.bool_), none.astype(np.float32)
    first, second = (np.concatenate([pairs[k] for pairs in batches]) for k in (0, 1))
    mirrored = np.concatenate([pairs[2] for pairs in batches])
    likeness = np.concatenate([pairs[3] for pairs in batches])
    order = np.lexsort((-likeness, second, first))
    first, second, mirrored, likeness = first[order], second[order], mirrored[order], likeness[order]
    fresh = np.ones(len(first), np.bool_)
    fresh[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return rows[first[fresh]], rows[second[fresh]], mirrored[fresh], likeness[fresh]
