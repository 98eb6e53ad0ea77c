"""Each row of the source documents has a test, and docs/reference/coverage.md tells which."""

from __future__ import annotations

from coverage_rows import ROWS, TRAPS
from coverage_table import PAGE, marks, page


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
