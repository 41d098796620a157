"""Whether a source's classes are what they are taken for: what the published counts say of it.

A part of a data set has fewer images than the whole, never more of a class. Counts that are the published ones under
other names are exchanged. Where numbers stand for expressions, complete counts show their order, and so do the
proportions of a random part; otherwise the order was taken on trust, which is said.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from fer_cli.artifacts.protocol import ClassNumbers, OrderEvidence
from fer_cli.core.errors import FerError
from fer_cli.datasets.source_labels import SourceLabels
from fer_cli.datasets.splits import count_differences

Counts = Mapping[str, Mapping[str, int]]
"""Part -> expression -> images."""

ORDERS: Final = {
    "alphabetical": ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    "AffectNet's": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"),
    "FER2013's": ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"),
    "RAF-DB's": ("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral", "contempt"),
    "FER+'s": ("neutral", "happy", "surprise", "sad", "anger", "disgust", "fear", "contempt"),
}
"""The usual orders in which expressions are numbered."""

_LEAST: Final = 10  # images of classes that are exchanged: fewer may agree by chance
_MANY: Final = 200  # images whose proportions say something
_NEAR, _FAR = 0.1, 0.2  # total variation distance from the published proportions
_EVIDENCE: Final = 20.0  # nats by which an order must be likelier than another


def check_classes(
    title: str,
    source: Path,
    found: Counts,
    expected: Counts,
    labels: SourceLabels | None = None,
    *,
    certain: bool = True,
) -> None:
    """Refuse classes that are not those of the data set, complete or not; say in ``labels`` what is known of numbers.

    Args:
        title: the data set's name.
        source: what is named where it is refused.
        found: the images that are there; parts that ``expected`` lacks are not looked at.
        expected: the published counts.
        labels: what the labels were taken for; its ``numbering`` is set.
        certain: whether the published counts are certain, so that no source has more.

    Raises:
        FerError: there are more images than were published, or the counts are those of other classes.
    """
    hint = "use the official files; images or labels of others: fer prepare folder"
    numbers = {} if labels is None else labels.numbers
    given = labels is not None and labels.given_numbers
    order = None if given else _better_order(found, expected, numbers)
    if order is not None:
        hint = f"if the numbers are in {order[0]} order, give --labels {order[1]}"
    if exchanged := list(_exchanges(found, expected)):
        if order is None and numbers:
            told = {label: right for _, label, right in exchanged}
            pairs = [f"{code}={told.get(label, label)}" for code, label in numbers.items()]
            hint = f"if only the numbers are in another order, give --labels {','.join(pairs)}"
        code_of = {label: f" ({code})" for code, label in numbers.items()}
        listed = ", ".join(
            f"{label}{code_of.get(label, '')} has the {found[part][label]:,} images of {right} in {part}"
            for part, label, right in exchanged[:4]
        )
        raise FerError(f"the classes of {title} are exchanged: {listed}", hint=hint, path=source)
    if certain and (over := list(_excess(found, expected))):
        listed = ", ".join(f"{part} {label} {have:,} of {want:,}" for part, label, have, want in over[:3])
        more = f", {len(over) - 3} more" if len(over) > 3 else ""
        differences = ", ".join(count_differences(found, expected))
        raise FerError(
            f"more images than {title} has ({listed}{more}), so it is no part of it: {differences}",
            hint=hint,
            path=source,
        )
    if order is not None:
        raise FerError(
            f"the classes have the proportions of {title} if they are numbered in {order[0]} order, not in its own",
            hint=f"give --labels {order[1]}",
            path=source,
        )
    if labels is not None and numbers:
        shown_by = "given" if given else _evidence(found, expected, numbers)
        order_of = tuple(f"{code}={label}" for code, label in _by_number(numbers))
        alike = _alike(found, expected) if shown_by == "proportions" else ()
        labels.numbering = ClassNumbers(shown_by=shown_by, numbers=order_of, alike=alike)


def _by_number(numbers: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(numbers.items(), key=lambda item: int(item[0]))


def _excess(found: Counts, expected: Counts) -> Iterator[tuple[str, str, int, int]]:
    """Yield part, expression, images and published images where there are more of them."""
    for part, counts in expected.items():
        for label, have in found.get(part, {}).items():
            if have > counts.get(label, 0):
                yield part, label, have, counts.get(label, 0)


def _exchanges(found: Counts, expected: Counts) -> Iterator[tuple[str, str, str]]:
    """Yield part, expression and the other one whose published count it has, where such make circles."""
    for part, counts in expected.items():
        there = found.get(part, {})
        unique = {count: label for label, count in counts.items() if Counter(counts.values())[count] == 1}
        of = {
            label: unique[have]
            for label, have in there.items()
            if have >= _LEAST and have != counts.get(label) and have in unique
        }
        while loose := [label for label, other in of.items() if other not in of]:
            for label in loose:
                del of[label]
        for label, other in of.items():
            yield part, label, other


def _pooled(found: Counts, expected: Counts) -> tuple[Counter[str], Counter[str]]:
    """Return the images of each expression, and the published ones of the same parts."""
    have: Counter[str] = Counter()
    want: Counter[str] = Counter()
    for part, counts in expected.items():
        if there := found.get(part):
            have.update(there)
            want.update(counts)
    return have, want


def _fit(numbers: Sequence[int], order: Sequence[str], want: Mapping[str, int]) -> tuple[float, float]:
    """Return how far numbers of images are from the published proportions of expressions, and their log-likelihood."""
    total, published = sum(numbers), sum(want[label] for label in order)
    shares = [want[label] / published for label in order]
    distance = sum(abs(n / total - share) for n, share in zip(numbers, shares, strict=True)) / 2
    return distance, sum(n * math.log(share) for n, share in zip(numbers, shares, strict=True))


def _other_orders(
    codes: Sequence[str], numbers: Mapping[str, str], want: Mapping[str, int]
) -> Iterator[tuple[str, list[str]]]:
    """Yield what the numbers mean in each of the usual orders, less what they were taken for.

    Numbers count through the expressions that are there, or through all of the data set, of which some may be lacking.
    """
    order = [numbers[code] for code in codes]
    first = min(map(int, numbers))
    for name, usual in ORDERS.items():
        whole = [label for label in usual if want[label]]
        places = [int(code) - first for code in codes]
        others = [[label for label in usual if label in set(order)]]
        others += [[whole[place] for place in places]] if max(places) < len(whole) else []
        for other in others:
            if len(other) == len(order) and other != order and all(want[label] for label in other):
                yield name, other


def _better_order(found: Counts, expected: Counts, numbers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the usual order whose published proportions the numbers have, and the ``--labels`` of it.

    Only where they are far from those in the order that was taken.
    """
    have, want = _pooled(found, expected)
    codes = [code for code, label in _by_number(numbers) if have[label] and want[label]]
    order = [numbers[code] for code in codes]
    counts = [have[label] for label in order]
    if sum(counts) < _MANY or len(order) < 2:
        return None
    distance, likelihood = _fit(counts, order, want)
    fits = [(*_fit(counts, other, want), name, other) for name, other in _other_orders(codes, numbers, want)]
    near, best, name, other = max(fits, key=lambda fit: fit[1], default=(1.0, likelihood, "", order))
    if distance <= _FAR or near > _NEAR or best - likelihood < _EVIDENCE:
        return None
    return name, ",".join(f"{code}={label}" for code, label in zip(codes, other, strict=True))


def _alike(found: Counts, expected: Counts) -> tuple[str, ...]:
    """Return the pairs of expressions that have images in numbers so alike that no exchange of the two would show."""
    have, want = _pooled(found, expected)
    names = [label for label in want if have[label] and want[label]]
    return tuple(
        f"{one} and {other}"
        for one, other in itertools.combinations(names, 2)
        if (have[one] - have[other]) * math.log(want[one] / want[other]) <= _EVIDENCE
    )


def _evidence(found: Counts, expected: Counts, numbers: Mapping[str, str]) -> OrderEvidence:
    """Return what shows the order of the numbers: complete counts, proportions, or nothing."""
    for part, counts in expected.items():
        there = {label: count for label, count in found.get(part, {}).items() if count}
        published = [count for count in counts.values() if count]
        distinct = len(there) > 1 and len(set(published)) == len(published)
        if distinct and all(there[name] == counts[name] for name in there):
            return "counts"
    have, want = _pooled(found, expected)
    codes = [code for code, label in _by_number(numbers) if have[label] and want[label]]
    order = [numbers[code] for code in codes]
    images = [have[label] for label in order]
    if sum(images) < _MANY or len(order) < 2:
        return "trust"
    distance, likelihood = _fit(images, order, want)
    others = [_fit(images, other, want)[1] for _, other in _other_orders(codes, numbers, want)]
    told = distance <= _NEAR and all(likelihood - other > _EVIDENCE for other in others)
    return "proportions" if told else "trust"
