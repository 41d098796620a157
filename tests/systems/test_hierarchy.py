"""The hierarchy file: what ours says, the semantic vectors it gives, and every way in which a user's can be wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_cli.core.errors import FerError
from fer_cli.core.labels import EXPRESSIONS
from fer_cli.core.toml_lines import read_toml, value_lines
from fer_cli.systems.ahm.hierarchy import (
    Expression,
    Hierarchy,
    default_hierarchy,
    load_hierarchy,
    parse_hierarchy,
    semantic_prototypes,
)

SMALL = """\
schema = 1
name = "small"
[parts.brows]
code = "C1"
[parts.brows.action_units]
AU1 = "inner brow raiser"
AU4 = "brow lowerer"
[parts.mouth]
code = "C4"
[parts.mouth.action_units]
AU12 = "lip corner puller"
[expressions.happy]
parts = ["mouth"]
judgement = [[1]]
[expressions.happy.within.mouth]
action_units = ["AU12"]
judgement = [[1]]
[expressions.sad]
parts = ["brows", "mouth"]
judgement = [
  [1, 3],
  ["1/3", 1],
]
[expressions.sad.within.brows]
action_units = ["AU1", "AU4"]
judgement = [
  [1, "1/5"],
  [5, 1],
]
[expressions.sad.within.mouth]
action_units = ["AU12"]
judgement = [[1]]
"""


@pytest.fixture(scope="module")
def ours() -> Hierarchy:
    return default_hierarchy()


def of(hierarchy: Hierarchy, name: str) -> Expression:
    return next(expression for expression in hierarchy.expressions if expression.name == name)


def test_ours_has_the_briefs_action_units(ours: Hierarchy) -> None:
    used = {e.name: {unit for branch in e.branches for unit in branch.action_units} for e in ours.expressions}
    assert used == {
        "neutral": {"AU0"},
        "happy": {"AU6", "AU12"},
        "sad": {"AU1", "AU15"},
        "surprise": {"AU1", "AU2", "AU5", "AU25", "AU26"},
        "fear": {"AU1", "AU2", "AU4", "AU5", "AU7", "AU20"},
        "disgust": {"AU9", "AU10"},
        "anger": {"AU4", "AU5", "AU24"},
        "contempt": {"AU14"},
    }
    assert tuple(e.name for e in ours.expressions) == EXPRESSIONS
    assert {p.code: [unit for unit, _ in p.action_units] for p in ours.parts} == {
        "C1": ["AU1", "AU2", "AU4"],
        "C2": ["AU9"],
        "C3": ["AU5", "AU6", "AU7"],
        "C4": ["AU10", "AU12", "AU14", "AU15", "AU20", "AU24", "AU25", "AU26"],
        "C0": ["AU0"],
    }


def test_ours_has_the_papers_weights_for_fear(ours: Hierarchy) -> None:
    fear = of(ours, "fear")
    assert np.round(fear.judgement.weights, 4).tolist() == [0.1047, 0.6370, 0.2583]
    assert round(fear.judgement.consistency_ratio, 3) == 0.033
    brows, eyes, mouth = fear.branches
    assert (brows.part, eyes.part, mouth.part) == ("brows", "eyes", "mouth")
    assert brows.judgement.weights == pytest.approx((3 / 7, 1 / 7, 3 / 7))
    assert np.round(eyes.judgement.weights, 4).tolist() == [0.8333, 0.1667]
    assert "[[1, 5], [1/3, 1]]" in ours.text, "the correction of the paper's matrix is said in the file"
    vector = ours.path_weights(fear)
    # U(1) U(2) U(3), multiplied out by hand from the figures above.
    assert vector["brows", "AU2"] == pytest.approx(0.1047 / 7, abs=1e-5)
    assert vector["eyes", "AU5"] == pytest.approx(0.6370 * 5 / 6, abs=1e-4)


def test_our_own_matrices_follow_the_rule_that_the_file_states(ours: Hierarchy) -> None:
    """Grade 3: owned; 2: shared; 1: shared by surprise and fear. Apart 0, 1, 2 grades: judged 1, 3, 5."""
    uses = {e.name: {u for b in e.branches for u in b.action_units} for e in ours.expressions}

    def grade(unit: str) -> int:
        if unit in uses["surprise"] and unit in uses["fear"]:
            return 1
        return 3 if sum(unit in units for units in uses.values()) == 1 else 2

    def judged(grades: list[int]) -> list[list[float]]:
        return [[(1.0, 3.0, 5.0)[a - b] if a >= b else 1 / (3.0, 5.0)[b - a - 1] for b in grades] for a in grades]

    for expression in ours.expressions:
        if expression.name == "fear":
            continue
        grades = [max(grade(unit) for unit in branch.action_units) for branch in expression.branches]
        expected = judged(grades)
        if expression.name == "happy":
            expected = [[1, 3], [1 / 3, 1]]
        assert np.allclose(expression.judgement.matrix, expected), expression.name
        for branch in expression.branches:
            assert np.allclose(branch.judgement.matrix, judged([grade(unit) for unit in branch.action_units]))


def test_shared_prototypes(ours: Hierarchy) -> None:
    P, paths = semantic_prototypes(ours, EXPRESSIONS)
    assert P.shape == (16, 8)
    assert P.sum(axis=0) == pytest.approx(np.ones(8))
    assert (P > 0).any(axis=1).all()
    assert paths[0] == "brows/AU1"
    at = {name: index for index, name in enumerate(EXPRESSIONS)}
    assert set(np.flatnonzero(P[paths.index("eyes/AU5")])) == {at["surprise"], at["fear"], at["anger"]}
    assert P[paths.index("eyes/AU6"), at["happy"]] == pytest.approx(0.75)
    # Neutral and contempt share nothing; surprise and fear do.
    gram = P.T @ P
    assert gram[at["surprise"], at["fear"]] > 0.05
    assert np.count_nonzero(gram[at["neutral"]]) == 1


def test_full_prototypes_are_orthogonal(ours: Hierarchy) -> None:
    P, paths = semantic_prototypes(ours, EXPRESSIONS, paths="full")
    assert P.shape == (22, 8)
    assert P.sum(axis=0) == pytest.approx(np.ones(8))
    gram = P.T @ P
    assert np.array_equal(gram, np.diag(np.diag(gram)))
    assert "fear/brows/AU1" in paths


def test_prototypes_follow_the_classes(ours: Hierarchy) -> None:
    whole, paths = semantic_prototypes(ours, EXPRESSIONS)
    some, kept = semantic_prototypes(ours, ("anger", "happy"))
    assert kept == ("brows/AU4", "eyes/AU5", "eyes/AU6", "mouth/AU12", "mouth/AU24")
    rows = [paths.index(path) for path in kept]
    assert np.array_equal(some, whole[np.ix_(rows, [EXPRESSIONS.index("anger"), EXPRESSIONS.index("happy")])])


def test_a_class_that_the_hierarchy_lacks(tmp_path: Path) -> None:
    path = tmp_path / "h.toml"
    path.write_text(SMALL)
    with pytest.raises(FerError, match=r"does not describe the class 'fear'; add \[expressions.fear\]") as error:
        semantic_prototypes(load_hierarchy(path), ("happy", "fear"))
    assert error.value.path == str(path)


def test_text_reads_back(ours: Hierarchy) -> None:
    again = parse_hierarchy(ours.text, ours.source)
    assert again == ours


def line_of(text: str, snippet: str) -> int:
    assert text.count(snippet) == 1, snippet
    return text[: text.index(snippet)].count("\n") + 1


MALFORMED: list[tuple[str, str, str, int, str]] = [
    # what, old text, new text, line, part of the message
    ("syntax", 'code = "C1"', "code = C1", 4, "is not TOML"),
    ("fraction without quotes", '["1/3", 1],', "[1/3, 1],", 22, "is not TOML"),
    ("unclosed", "[1, 3],", "[1, 3", 22, "is not TOML"),
    ("key twice", 'AU1 = "inner brow raiser"', 'AU4 = "inner brow raiser"', 7, "is not TOML"),
    ("unknown top key", 'name = "small"', 'name = "small"\nextra = 1', 3, "unknown key 'extra' in the file"),
    ("no name", 'name = "small"\n', "", 1, "the file lacks 'name'"),
    ("name a number", 'name = "small"', "name = 3", 2, "'name' is not a line of text"),
    ("schema", "schema = 1", "schema = 2", 1, "schema 2 is not known"),
    ("schema true", "schema = 1", "schema = true", 1, "schema True is not known"),
    ("unknown table", "[parts.mouth]", "[unused]\n[parts.mouth]", 8, "unknown key 'unused' in the file"),
    ("part no table", '[parts.brows]\ncode = "C1"', "[parts]\nnose = 3\n[parts.brows]\ncode='C1'", 4, "is not a table"),
    ("part name", "[parts.mouth]", '["parts"."Mouth/2"]\ncode = "x"\n[parts.mouth]', 8, "cannot name a part"),
    ("part key", 'code = "C4"', 'code = "C4"\ncolour = "red"', 10, "unknown key 'colour' in [parts.mouth]"),
    ("part without code", 'code = "C4"\n', "", 8, "[parts.mouth] lacks 'code'"),
    ("empty part", 'AU12 = "lip corner puller"\n', "", 10, "[parts.mouth.action_units] is empty"),
    ("no AU name", 'AU12 = "lip', 'twelve = "lip', 11, "'twelve' is not an action unit"),
    ("words", 'AU12 = "lip corner puller"', "AU12 = 12", 11, "'AU12' is not a line of text"),
    ("AU in two parts", 'AU12 = "lip', 'AU4 = "x"\nAU12 = "lip', 11, "AU4 lies in two parts, brows and mouth"),
    ("another case", "[expressions.happy]", "[expressions.Anger]\n[expressions.happy]", 12, "write 'anger'"),
    (
        "expression key",
        'parts = ["mouth"]',
        'parts = ["mouth"]\ncode = 1',
        14,
        "unknown key 'code' in [expressions.",
    ),
    (
        "no within",
        "[expressions.happy.within.mouth]",
        "[expressions.surprise]",
        12,
        "lacks 'within'",
    ),
    ("part unknown", '["brows", "mouth"]', '["brows", "ear"]', 19, "unknown part 'ear'"),
    ("part twice", '["brows", "mouth"]', '["brows",\n"brows"]', 20, "'brows' is listed twice"),
    ("parts a word", '["brows", "mouth"]', '"brows"', 19, "'parts' is not a list of names"),
    ("parts empty", '["brows", "mouth"]', "[]", 19, "'parts' is not a list of names"),
    ("part a number", '["brows", "mouth"]', '["brows", 4]', 19, "4 is not a name"),
    ("part not described", "[expressions.sad.within.mouth]", "[expressions.sad.within.eyes]", 30, "unknown key 'eyes'"),
    ("part left out", "[expressions.sad.within.mouth]", "[expressions.fear]", 24, "lacks 'mouth'"),
    ("AU of no part", '["AU1", "AU4"]', '["AU1", "AU99"]', 25, "'AU99' belongs to no part"),
    ("AU of another part", '["AU1", "AU4"]', '["AU1",\n"AU12"]', 26, "AU12 belongs to mouth, not to brows"),
    ("AU twice", '["AU1", "AU4"]', '["AU1", "AU1"]', 25, "'AU1' is listed twice"),
    ("matrix too small", '["AU1", "AU4"]', '["AU1"]', 26, "2 rows for 1 items (AU1)"),
    ("matrix ragged", "[1, 3],", "[1],", 21, "row 1 of the judgement matrix holds 1"),
    ("no matrix", 'judgement = [\n  [1, "1/5"],\n  [5, 1],\n]\n', "", 24, "lacks 'judgement'"),
    ("matrix empty", 'judgement = [\n  [1, "1/5"],\n  [5, 1],\n]\n', "judgement = []\n", 26, "is a list of rows"),
    ("not reciprocal", '["1/3", 1],', '["1/5", 1],', 22, "the judgement matrix is not reciprocal"),
    ("both ways", '["1/3", 1],', "[3, 1],", 22, "the judgement matrix is not reciprocal"),
    ("diagonal", "[5, 1],", "[5, 2],", 28, "row 2, column 2 is 2: an item against itself"),
    ("off the scale", "[5, 1],", "[25, 1],", 28, "row 2, column 1: the judgement 25 is not on Saaty's scale"),
    ("a judgement in words", "[5, 1],", '["much", 1],', 28, "row 2, column 1: 'much' is not a judgement"),
    ("nan", "[5, 1],", "[nan, 1],", 28, "not on Saaty's scale"),
    ("a date", "[5, 1],", "[2020-01-01, 1],", 28, "is not a judgement"),
]


@pytest.mark.parametrize(("what", "old", "new", "line", "message"), MALFORMED, ids=[case[0] for case in MALFORMED])
def test_malformed(tmp_path: Path, what: str, old: str, new: str, line: int, message: str) -> None:
    line_of(SMALL, old)  # the snippet is there, once
    text = SMALL.replace(old, new)
    path = tmp_path / "h.toml"
    # CRLF, as a Windows editor would save it: the lines stay the same.
    path.write_bytes(text.replace("\n", "\r\n").encode())
    with pytest.raises(FerError) as error:
        load_hierarchy(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.hint


def test_contradictory_judgements_name_the_matrix() -> None:
    text = default_hierarchy().text
    at = text.index("[expressions.fear.within.brows]")
    text = text[:at] + text[at:].replace('["1/3", 1, "1/3"]', '["1/3", 1, 5]', 1).replace("[1, 3, 1]", "[1, 3, 1]", 1)
    last = text.index("[1, 3, 1],\n]", at)
    text = text[:last] + text[last:].replace("[1, 3, 1]", '[1, "1/5", 1]', 1)
    with pytest.raises(FerError, match="contradict each other: consistency ratio") as error:
        parse_hierarchy(text, "h.toml")
    assert error.value.line == text[: text.index("judgement = [", at)].count("\n") + 1


def test_expressions_that_cannot_be_told_apart() -> None:
    text = SMALL.replace('parts = ["brows", "mouth"]', 'parts = ["mouth"]')
    text = text.replace('judgement = [\n  [1, 3],\n  ["1/3", 1],\n]', "judgement = [[1]]")
    start = text.index("[expressions.sad.within.brows]")
    text = text[:start] + text[text.index("[expressions.sad.within.mouth]") :]
    with pytest.raises(FerError, match="sad and happy have the same action units") as error:
        parse_hierarchy(text, "h.toml")
    assert error.value.line == line_of(text, "[expressions.sad]")


@pytest.mark.parametrize(
    ("data", "message", "line"),
    [
        (b'schema = 1\nname = "\xff"\n', "is not UTF-8", 2),
        (b"", "the file lacks 'schema'", 1),
        (b"# " + b"x" * 1_000_000, "is larger than", None),
        (b"a = " + b"[" * 20_000, "", None),
        (b"a = " + b"1" * 5000, "beyond reading", None),
        (b"\x80\x04\x95pickle", "is not UTF-8", 1),
    ],
)
def test_files_that_are_no_hierarchy(tmp_path: Path, data: bytes, message: str, line: int | None) -> None:
    path = tmp_path / "h.toml"
    path.write_bytes(data)
    with pytest.raises(FerError) as error:
        load_hierarchy(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    if line is not None:
        assert error.value.line == line


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(FerError, match="cannot be read"):
            load_hierarchy(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "h.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_hierarchy(path).name == "small"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_is_a_hierarchy_or_an_error_with_a_line(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SMALL) - 1))
    length = data.draw(st.integers(0, 12))
    insert = data.draw(st.text(alphabet="[]{}\"'=,.#\n1/3AU -nx\\$é", max_size=4))
    try:
        parse_hierarchy(SMALL[:at] + insert + SMALL[at + length :], "h.toml")
    except FerError as error:
        assert error.line is not None or "beyond reading" in str(error)
        assert error.hint


def paths_of(value: Any, prefix: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return {path for key, inner in items for path in {(*prefix, key), *paths_of(inner, (*prefix, key))}}


DOCUMENT = (
    r'''# a comment with [brackets] and "quotes"
"quoted key" = 'x # no comment'
a.b.c = { x = 1, "y z" = [1, 2] } # inline
text = """
[not.a.header]
k = "v" \
"""""
raw = '''
    + "'''\nline = 1\n'''"
    + r"""
dates = [1979-05-27 07:32:00, 07:32:00]
nested = [
  [ 1, 2 ], # ]
  [],
  { k = "]" },
]
[table]
k = "\"]"
[[array]]
name = "first"
[array.sub]
k = 1
[[array]]
[array.sub]
k = 2
[[array.deep]]
z = 1
[[array.deep]]
z = 2
[late.child]
k = 1
[late]
k = 2
"""
)


def test_lines_of_every_value() -> None:
    data, lines = read_toml(DOCUMENT)
    assert set(lines) == paths_of(data)
    where = {path: DOCUMENT.splitlines()[line - 1] for path, line in lines.items()}
    assert lines["nested",] == lines["nested", 0] - 1 == lines["nested", 2] - 3
    assert where["a", "b", "c", "y z", 1].startswith("a.b.c")
    assert where["quoted key",].startswith('"quoted key"')
    assert lines["array", 1, "sub", "k"] == lines["array", 0, "sub", "k"] + 3
    assert lines["array", 1, "deep", 1, "z"] == lines["array", 1, "deep", 0, "z"] + 2
    assert where["late",] == "[late]"
    assert where["late", "child"] == "[late.child]"
    assert where["table", "k"].startswith("k = ")
    assert where["raw",].startswith("raw")
    assert where["dates", 1].startswith("dates")


def test_lines_of_our_own_file_are_complete() -> None:
    text = default_hierarchy().text
    lines = value_lines(text)
    assert set(lines) == paths_of(tomllib.loads(text))
    rows = text.splitlines()
    for path, line in lines.items():
        if isinstance(path[-1], str):
            assert path[-1] in rows[line - 1]
