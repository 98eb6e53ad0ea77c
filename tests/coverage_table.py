"""Which test shows which row of the source documents, read from the tests without importing them.

`make coverage` writes docs/reference/coverage.md; test_coverage.py compares.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from coverage_rows import ROWS, TRAPS

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "reference" / "coverage.md"
HEAD = """# Coverage

Which tests show what the source documents name, S1 to S125, and which of the traps are covered.
Made from the marks on the tests, `@pytest.mark.shows("S61")` and `@pytest.mark.trap(4)`, by
`make coverage`; `tests/test_coverage.py` fails where this page is not that, where a mark names a
row that does not exist, and where a row has no test.
"""


class Mark(NamedTuple):
    """One mark: its name, what it names (None where it is no literal), where, and on which test."""

    name: str
    value: object
    where: str
    test: str


@cache
def marks() -> list[Mark]:
    """Return every `shows` and `trap` of all test files, in the order of the files."""
    found: list[Mark] = []
    for path in sorted(TESTS.rglob("test_*.py")):
        found += _marks_of(path)
    return found


def page() -> str:
    """Return the text of docs/reference/coverage.md."""
    rows: dict[object, list[str]] = defaultdict(list)
    for mark in marks():
        if mark.test not in rows[mark.value]:
            rows[mark.value].append(mark.test)
    parts = [
        HEAD,
        "## Rows\n",
        _table("row", ROWS, rows),
        "## Traps\n",
        _table("trap", TRAPS, rows),
    ]
    return "\n".join(parts)


def _table(name: str, words: dict[str, str] | dict[int, str], rows: dict[object, list[str]]) -> str:
    lines = [f"| {name} | what | tests |", "| --- | --- | --- |"]
    for key, what in words.items():
        tests = "<br>".join(f"`{test}`" for test in rows.get(key, []))
        lines.append(f"| {key} | {what} | {tests} |")
    return "\n".join(lines) + "\n"


def _marks_of(path: Path) -> Iterator[Mark]:
    """Yield the marks of a file: on its tests, in their parameters, or on all (`pytestmark`)."""
    name = path.relative_to(TESTS).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            places: list[ast.expr] = list(node.decorator_list)
            test = f"{name}::{node.name}"
        elif isinstance(node, ast.Assign) and "pytestmark" in map(ast.unparse, node.targets):
            places, test = [node.value], name
        else:
            continue
        for place in places:
            yield from _marks_in(place, name, test)


def _marks_in(place: ast.expr, name: str, test: str) -> Iterator[Mark]:
    for call in ast.walk(place):
        if not isinstance(call, ast.Call):
            continue
        called = ast.unparse(call.func)
        if called not in {"pytest.mark.shows", "pytest.mark.trap"}:
            continue
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
            value = argument.value if isinstance(argument, ast.Constant) else None
            yield Mark(called.rpartition(".")[2], value, f"{name}:{call.lineno}", test)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
