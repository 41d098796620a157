"""Joining votes by row order: what is moved, lost or exchanged shows in the agreement with FER2013's own labels."""

from __future__ import annotations

import csv
import lzma
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fer_cli.core.errors import FerError
from fer_cli.datasets.fer2013 import EMOTIONS, LABEL_SHARES
from fer_cli.datasets.vote_join import CHANCE, RIGHT, VoteAgreement, least_share
from fer_cli.datasets.votes import COLUMNS, judge, read_votes
from tests.kits.fer2013 import fault, votes_lines, write_lines

REAL = Path(__file__).parents[3] / "shared" / "data" / "fer2013"
TABLE = Path("fer2013.csv")
Rows = list[tuple[str, tuple[int, ...]]]
"""FER2013's label and the votes of each image."""


@cache
def drawn(count: int = 4000, seed: int = 0) -> Rows:
    """Draw labels as common as FER2013's, and votes of which a clear majority has the label in 68 of 100."""
    rng = np.random.default_rng(seed)
    rows: Rows = []
    for label in rng.choice(EMOTIONS, count, p=[LABEL_SHARES[name] for name in EMOTIONS]).tolist():
        other = rng.choice([name for name in EMOTIONS if name != label])
        winner, second = (label, other) if rng.random() < RIGHT else (other, label)
        votes = [0] * len(COLUMNS)
        votes[COLUMNS.index(winner)], votes[COLUMNS.index(second)] = 7, 3
        rows.append((label, tuple(votes)))
    return rows


@cache
def real() -> Rows:
    with lzma.open(REAL / "fer2013.csv.xz", "rt") as file:
        labels = [EMOTIONS[int(line[0])] for line in file.readlines()[1:]]
    with (REAL / "fer2013new.csv").open() as file:
        votes = [tuple(map(int, row[2:])) for row in list(csv.reader(file))[1:]]
    return list(zip(labels, votes, strict=True))


def check(labels: list[str], votes: list[tuple[int, ...]]) -> tuple[float, bool]:
    """Return the share of majorities that agree, and whether the rows were enough; the first row has number 0."""
    agreement = VoteAgreement(TABLE, LABEL_SHARES)
    for line, (label, counts) in enumerate(zip(labels, votes, strict=True)):
        agreement.add(counts, label, line)
    found = agreement.finish()
    return found.agree / found.rows, found.enough


def start(rows: Rows, order: list[int]) -> int | None:
    """Return the row from which on images in another order than their votes are refused."""
    with pytest.raises(FerError) as caught:
        check([rows[at][0] for at in order], [counts for _, counts in rows])
    return caught.value.line


SOURCES = [
    pytest.param(drawn, id="drawn"),
    pytest.param(
        real,
        id="real",
        marks=pytest.mark.skipif(not (REAL / "fer2013.csv.xz").is_file(), reason="the real images are not here"),
    ),
]


@pytest.mark.parametrize("source", SOURCES)
def test_votes_of_these_images_are_taken(source: object) -> None:
    rows: Rows = source()  # type: ignore[operator]
    share, enough = check([label for label, _ in rows], [counts for _, counts in rows])
    assert share == pytest.approx(RIGHT, abs=0.02)
    assert enough


@pytest.mark.parametrize("source", SOURCES)
def test_the_row_where_the_order_changes_is_named(source: object) -> None:
    rows: Rows = source()[:4000]  # type: ignore[operator]
    last = len(rows)
    orders = {
        "shuffled": (0, np.random.default_rng(1).permutation(last).tolist()),
        "shifted by one": (0, [*range(1, last), 0]),
        "one row moved": (1500, [*range(1500), *range(1501, 2000), 1500, *range(2000, last)]),
        "one row moved to the front": (0, [2500, *range(2500), *range(2501, last)]),
        "one lost, one added": (3000, [*range(3000), *range(3001, last), 3000]),
        "two blocks exchanged": (
            *(1000,),
            [*range(1000), *range(1100, 1200), *range(1000, 1100), *range(1200, last)],
        ),
        "50 rows turned round": (2000, [*range(2000), *range(2049, 1999, -1), *range(2050, last)]),
    }
    for name, (expected, order) in orders.items():
        assert start(rows, order) == pytest.approx(expected, abs=25), name


def test_chance_agreement_is_what_the_message_says() -> None:
    rows = drawn()
    shares = np.array([LABEL_SHARES[name] for name in EMOTIONS])
    assert (shares**2).sum() == pytest.approx(CHANCE, abs=0.01)
    with pytest.raises(FerError, match="where 68% do that belong together and 18% by chance"):
        check([label for label, _ in rows[1:]], [counts for _, counts in rows[:-1]])


def test_the_whole_must_agree_where_no_part_stands_out() -> None:
    """Every third image has the votes of another one: no stretch of rows is wrong alone."""
    rows = drawn(6000)
    order = [at + 3 if at % 3 == 0 and at + 3 < len(rows) else at for at in range(len(rows))]
    with pytest.raises(FerError, match=r"([\d.]+)% of 6,000 FER\+ majorities agree|from this row on"):
        check([rows[at][0] for at in order], [counts for _, counts in rows])


def test_one_row_of_ten_with_the_votes_of_another_image_is_refused() -> None:
    rows = drawn(20_000)
    for every, refused in ((20, True), (200, False)):  # neighbours exchanged: 10% of the rows, and 1%
        order = list(range(len(rows)))
        for at in range(0, len(rows) - 1, every):
            order[at], order[at + 1] = at + 1, at
        labels, votes = [rows[at][0] for at in order], [counts for _, counts in rows]
        if refused:
            with pytest.raises(FerError, match=r"6\d\.\d% of 20,000 FER\+ majorities agree.* 66\.2% are the least"):
                check(labels, votes)
        else:
            assert check(labels, votes)[0] == pytest.approx(RIGHT, abs=0.015)


@pytest.mark.skipif(not (REAL / "fer2013.csv.xz").is_file(), reason="the real images are not here")
def test_no_real_rows_are_below_what_is_taken() -> None:
    agree = [
        winner == label
        for label, votes in real()
        if (winner := judge("majority", votes).label) is not None and winner in LABEL_SHARES
    ]
    sums = np.concatenate([[0], np.cumsum(agree)])
    for rows in (1000, 2000, 5000, 10_000, 20_000, len(agree)):
        shares = (sums[rows:] - sums[:-rows]) / rows
        assert shares.min() > least_share(rows) + 0.01, rows


def test_few_rows_tell_nothing() -> None:
    rows = drawn()
    share, enough = check([label for label, _ in rows[1:9]], [counts for _, counts in rows[:8]])
    assert share < RIGHT
    assert not enough


def test_names_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fer2013new.csv"
    header, *lines = votes_lines(["Training"] * 6, [[10] + [0] * 9] * 6)
    write_lines(path, [header, *lines])
    assert len(read_votes(path, ("Training",)).counts) == 6
    # The second of two equal images has the name of the first, as three images of the official file.
    write_lines(path, [header, *lines[:4], lines[1], lines[5]])
    assert len(read_votes(path, ("Training",)).counts) == 6
    write_lines(path, [header, *lines[:2], lines[3], lines[2], *lines[4:]])
    fault(
        lambda: read_votes(path, ("Training",)),
        "the image fer0000002.png stands behind fer0000003.png",
        at=f"{path}:5: ",
    )
