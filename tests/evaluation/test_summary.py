"""Tables as Markdown and CSV: missing entries, pipes, figures at full precision, one for each correction."""

from __future__ import annotations

import csv
import io
import math

import pytest

from exposurediffusion.evaluation.measure import Correction, Record
from exposurediffusion.evaluation.summary import Score, Table, by_correction, text

HALF = Score(31.23456, 0.87654)


def test_markdown_has_dashes_for_what_is_missing_and_escapes_pipes() -> None:
    table = Table("Title", ["", "a|b"], [["x|y", None], ["z", HALF], ["w", Score(30, 0.5, 0.25)]], ["First.", "Next."])
    assert table.markdown() == (
        "## Title\n\n"
        "|  | a\\|b |\n"
        "| --- | --- |\n"
        "| x\\|y | - |\n"
        "| z | 31.23 / 0.877 |\n"
        "| w | 30.00 ±0.25 / 0.500 |\n\n"
        "First.\n\nNext.\n"
    )


def test_csv_has_two_columns_for_figures_at_full_precision() -> None:
    rows = [["one, two", HALF, 3, None], ["empty", None, None, 0.25], ["inf", Score(math.inf, 1.0), 4, "word"]]
    table = Table("Title", ["name", "x100", "count", "other"], rows)
    assert list(csv.reader(io.StringIO(table.csv()))) == [
        ["name", "x100 PSNR", "x100 SSIM", "count", "other"],
        ["one, two", "31.23456", "0.87654", "3", ""],
        ["empty", "", "", "", "0.25"],
        ["inf", "inf", "1.0", "4", "word"],
    ]


def test_csv_has_a_third_column_where_seeds_have_a_spread() -> None:
    rows = [[Score(30.5, 0.5, 0.25), HALF], [HALF, HALF], ["word", None]]
    assert Table("Title", ["many", "one"], rows).csv().splitlines() == [
        "many PSNR,many SSIM,many spread,one PSNR,one SSIM",
        "30.5,0.5,0.25,31.23456,0.87654",
        "31.23456,0.87654,,31.23456,0.87654",
        "word,,,,",
    ]


def test_a_column_of_figures_may_hold_a_word() -> None:
    table = Table("Title", ["x100"], [[HALF], ["none"]])
    assert table.csv().splitlines()[-1] == "none,"


def test_a_table_without_rows_is_its_header() -> None:
    table = Table("Title", ["a", "b"], [])
    assert table.csv() == "a,b\n"
    assert table.markdown().splitlines()[-1] == "| --- | --- |"


@pytest.mark.parametrize("rows", [[["one"]], [["one", "two", "three"]], [["one", "two"], []]])
def test_rows_and_header_go_together(rows: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="Title: rows and header differ"):
        Table("Title", ["a", "b"], rows)


def test_cells_for_people() -> None:
    assert [text(cell) for cell in (None, "word", 3, 0.123456, HALF)] == ["-", "word", "3", "0.1235", "31.23 / 0.877"]


def test_a_table_for_each_correction() -> None:
    def record(method: str, ratio: float, correction: Correction, psnr: float) -> Record:
        return Record(method, "a.dng", "a", ratio, None, 0, correction, psnr, 0.5)

    records = [
        record("net", 303, "none", 30),
        record("net", 303, "final", 31),
        record("capture", 100, "none", 20),
        record("capture", 100, "final", 21),
        record("earlier", 100, "none", 10),
    ]
    first, second = by_correction(records, ["capture", "net", "unmeasured"], ["Note."])
    assert (first.title, second.title) == ("Correction: none", "Correction: final")
    assert first.header == ["", "x100", "x300"]
    assert [row[0] for row in first.rows] == ["capture", "net", "unmeasured", "earlier"]
    assert [[text(cell) for cell in row[1:]] for row in first.rows] == [
        ["20.00 / 0.500", "-"],
        ["-", "30.00 / 0.500"],
        ["-", "-"],
        ["10.00 / 0.500", "-"],
    ]
    assert text(second.rows[1][2]) == "31.00 / 0.500"
    assert (list(first.notes), list(second.notes)) == ([], ["Note."])
    assert by_correction([], ["capture"], ["Note."]) == []
