"""Each row of the source documents has a test, and docs/reference/coverage.md tells which."""

from __future__ import annotations

import json
import re

import pytest
from coverage_rows import ROWS, TRAPS
from coverage_table import PAGE, marks, page

PROJECT = PAGE.parents[2]


def test_the_rows_are_all_there() -> None:
    assert list(ROWS) == [f"S{number}" for number in range(1, 126)]
    assert list(TRAPS) == list(range(1, 44))
    assert len(set(ROWS.values())) == len(ROWS)


def test_marks_name_rows_that_exist() -> None:
    known = {"shows": set(ROWS), "trap": set(TRAPS)}
    wrong = [
        f"{mark.where}: {mark.name}({mark.value!r}) names nothing in coverage_rows.py"
        for mark in marks()
        if mark.value not in known[mark.name]
    ]
    assert wrong == []


def test_the_page_is_made_from_the_marks() -> None:
    """`make coverage` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_no_row_is_without_a_test() -> None:
    shown = {mark.value for mark in marks() if mark.name == "shows"}
    assert [f"{row}: {what}" for row, what in ROWS.items() if row not in shown] == []


def test_no_trap_is_without_a_test() -> None:
    shown = {mark.value for mark in marks() if mark.name == "trap"}
    assert [f"{trap}: {what}" for trap, what in TRAPS.items() if trap not in shown] == []


@pytest.mark.trap(41)
def test_figures_of_the_examples_stand_beside_measured_ones() -> None:
    """What counts was measured here, by a model and by a naive one; no page is cited."""
    rows = json.loads((PROJECT / "benchmarks/results/examples.json").read_text())["rows"]
    assert {row["row"] for row in rows} == {f"E{number}" for number in range(1, 11)}
    for row in rows:
        assert len(row["seeds"]) == 3
        assert row["mean"] == pytest.approx(sum(row["seeds"]) / 3, abs=1e-3)
        assert row["naive_is"]
        better = row["mean"] > row["naive"] if row["more_is_better"] else row["mean"] < row["naive"]
        assert better, row["example"]


@pytest.mark.trap(42)
def test_no_file_was_copied_from_a_vendor() -> None:
    owners = "math" + "works|wol" + "fram"  # in two, so that this line is none
    notice = re.compile(rf"(copyright|\(c\)|©)[^\n]{{0,40}}({owners})", re.IGNORECASE)
    folders = ["forecastd", "cli", "tests", "examples", "benchmarks", "docs"]
    files = [path for folder in folders for path in (PROJECT / folder).rglob("*.[pm][yd]")]
    assert len(files) > 200
    assert [path for path in files if notice.search(path.read_text(encoding="utf-8"))] == []
