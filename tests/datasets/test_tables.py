"""Tables as spreadsheets, editors and people write them: separators, quotes, blanks, blank lines, byte-order marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_cli.core.errors import FerError
from fer_cli.datasets.table_columns import is_known
from fer_cli.datasets.tables import open_table, read_header, text_lines

ROWS = [["a b.png", "happy"], ["c,d;e.png", "sad"]]
FORMS = {
    "commas": 'path,label\na b.png,happy\n"c,d;e.png",sad\n',
    "semicolons": 'path;label\na b.png;happy\n"c,d;e.png";sad\n',
    "tabs": "path\tlabel\na b.png\thappy\nc,d;e.png\tsad\n",
    "bars": "path|label\na b.png|happy\nc,d;e.png|sad\n",
    "blanks after commas": 'path, label\na b.png, happy\n"c,d;e.png", sad\n',
    "blanks around quotes": '"path" , "label" \n "a b.png" ,"happy"\n"c,d;e.png" , "sad" \n',
    "tabs and quotes": '"path"\t"label"\n"a b.png" \t "happy"\n"c,d;e.png"\tsad\n',
    "CR LF and a byte-order mark": '\ufeffpath,label\r\n"a b.png",happy\r\n"c,d;e.png","sad"\r\n',
    "blank lines": '\n \t\npath,label\n\na b.png,happy\n \n"c,d;e.png",sad\n\n\n',
    "a spreadsheet's first line": 'sep=;\npath;label\na b.png;happy\n"c,d;e.png";sad\n',
    "a spreadsheet's empty last rows": 'path,label\na b.png,happy\n"c,d;e.png",sad\n,\n , \n',
    "no last line break": 'path,label\na b.png,happy\n"c,d;e.png",sad',
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_any_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(FORMS[form].encode())
    table = open_table(path, {"path": ("path",), "label": ("label",)})
    lines = [number for number, text in enumerate(FORMS[form].splitlines(), start=1) if ".png" in text]
    assert list(table.rows) == list(zip(lines, ROWS, strict=True))


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_bar_in_the_name_of_a_column_separates_nothing(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    header = ["path", "label", "note|of|the|annotator", "a|b"]
    path.write_text(f"{separator.join(header)}\n{separator.join(['a.png', 'happy', 'x', 'y'])}\n")
    assert read_header(path, is_known) == tuple(header)
    assert read_header(path, lambda _: False) == tuple(header)
    table = open_table(path, {"path": ("path",), "label": ("label",)})
    assert list(table.rows) == [(2, ["a.png", "happy", "x", "y"])]
    path.write_text("path|label|a;b;c;d\n")
    assert read_header(path, is_known) == ("path", "label", "a;b;c;d")


def test_a_quote_in_a_quoted_cell_stays(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"x ""y"" , z",1\n')
    assert list(open_table(path, {}).rows) == [(2, ['x "y" , z', "1"])]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("path,label\n,\na.png,happy\n", 2, "the row is empty"),
        ('path,label\n"a.png,happy\n', 2, "the quotes do not match"),
        ("path,label\ra.png,happy\r", 1, "lines end with CR alone"),
        ("\n\npath,wrong\n", 3, "no column 'label'"),
        ("path;label\na.png,happy\n", 2, "the row has 1 fields, the header has 2"),
        ("", None, "the file is empty"),
        (" \n\n", None, "the file is empty"),
    ],
)
def test_a_table_at_fault(tmp_path: Path, text: str, line: int | None, what: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    with pytest.raises(FerError, match=what) as caught:
        list(open_table(path, {"path": ("path",), "label": ("label",)}).rows)
    assert caught.value.line == line


def test_blank_lines_of_a_list_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa.jpg 1\r\n\r\n \nb.jpg 2\n\n")
    assert list(text_lines(path)) == [(1, "a.jpg 1"), (4, "b.jpg 2")]
