"""The rules of the house that neither formatter, type checker nor import linter can see.

An exception is a line in one of the tables below, with its reason; the tables only get shorter.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
FOLDERS = [
    "forecastd", "cli", "tests", "benchmarks", "datasets", "examples", "systemd", "docs", ".ci",
]  # fmt: skip
FUNCTION_LINES_MAX = 50
FILE_LINES_MAX = 400
FILE_BYTES_MAX = 400_000
BANNED_FOLDERS = {"utils", "common", "helpers", "core", "base"}
LOGGERS = {"logging", "structlog", "prometheus_client"}
CONNECTOR_PARTS = {
    "contract": "the protocols of sources and sinks",
    "connections": "the clients of a socket source, shared by tcp and unix",
    "frames": "bytes into Arrow record batches, shared by the sources",
    "lines": "bytes into lines of bounded length, shared by the sources",
}
"""Modules among the connectors that are none, with what they are."""

LONG_FUNCTIONS: dict[str, str] = {}
"""file::function -> why it is longer than FUNCTION_LINES_MAX."""

LONG_FILES: dict[str, str] = {}
"""file -> why it is longer than FILE_LINES_MAX."""

LARGE_FILES: dict[str, str] = {}
"""file -> why it is larger than FILE_BYTES_MAX."""


def _files() -> list[Path]:
    inside = [path for folder in FOLDERS for path in (PROJECT / folder).rglob("*")]
    found = [path for path in [*PROJECT.iterdir(), *inside] if path.is_file()]
    left_out = {"__pycache__", "runs"}
    return sorted(path for path in found if not left_out & set(path.relative_to(PROJECT).parts))


@cache
def _texts() -> list[tuple[str, str]]:
    found = []
    for path in _files():
        try:
            found.append((_name(path), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # data
    return found


def _name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@cache
def _trees() -> list[tuple[str, ast.Module]]:
    return [(name, ast.parse(text)) for name, text in _texts() if name.endswith(".py")]


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call by the last part of its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr, node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def _report(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_functions_are_short() -> None:
    problems = []
    for name, tree in _trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = _code_lines(node)
            if lines > FUNCTION_LINES_MAX and f"{name}::{node.name}" not in LONG_FUNCTIONS:
                problems.append(f"{name}:{node.lineno}: {node.name} has {lines} lines")
    _report(problems)


def test_files_are_short() -> None:
    problems = []
    for name, text in _texts():
        lines = text.count("\n")
        if name.endswith(".py") and lines > FILE_LINES_MAX and name not in LONG_FILES:
            problems.append(f"{name}: {lines} lines")
    _report(problems)


def test_files_are_small_enough_for_a_clone() -> None:
    sizes = {_name(path): path.stat().st_size for path in _files()}
    large = [name for name, size in sizes.items() if size > FILE_BYTES_MAX]
    _report([f"{name}: {sizes[name]} bytes" for name in large if name not in LARGE_FILES])


def test_texts_end_with_one_newline() -> None:
    _report(
        [
            f"{name}: ends without a newline, or with several"
            for name, text in _texts()
            if text and (not text.endswith("\n") or text.endswith("\n\n"))
        ]
    )


def test_folders_say_what_is_in_them() -> None:
    found = {path.parent for path in _files()}
    _report([_name(folder) for folder in found if BANNED_FOLDERS & set(_name(folder).split("/"))])


def test_nothing_sleeps() -> None:
    _report(
        [
            f"{name}:{call.lineno}: wait on a descriptor or an event instead of sleeping"
            for name, tree in _trees()
            for called, call in _calls(tree)
            if called == "sleep"
        ]
    )


def test_only_files_py_renames() -> None:
    """`path.replace(other)` has one argument; `text.replace(old, new)` has two."""
    problems = []
    for name, tree in _trees():
        if name == "forecastd/files.py":
            continue
        for called, call in _calls(tree):
            is_method = isinstance(call.func, ast.Attribute)
            one_place = len(call.args) == 1 and not call.keywords
            mapping = one_place and isinstance(call.args[0], ast.Dict | ast.DictComp)
            if called in {"rename", "replace"} and is_method and one_place and not mapping:
                problems.append(f"{name}:{call.lineno}: use files.write_durably")
    _report(problems)


def test_only_events_py_logs_and_counts() -> None:
    problems = []
    for name, tree in _trees():
        if name == "forecastd/daemon/events.py" or not name.startswith(("forecastd/", "cli/")):
            continue
        used = {module.split(".")[0] for module in _imports(tree)} & LOGGERS
        problems += [f"{name}: {module} belongs to daemon/events.py" for module in used]
    _report(problems)


def test_nothing_is_unpickled() -> None:
    problems = []
    for name, tree in _trees():
        for module in _imports(tree):
            if re.match(r"(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b", module):
                problems.append(f"{name}: imports {module}")
        for called, call in _calls(tree):
            owner = call.func.value if isinstance(call.func, ast.Attribute) else None
            if isinstance(owner, ast.Name) and owner.id == "torch" and called in {"load", "save"}:
                problems.append(f"{name}:{call.lineno}: torch.{called}; use artifact.py")
            for keyword in call.keywords:
                is_false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not is_false:
                    problems.append(f"{name}:{call.lineno}: allow_pickle must be False")
    _report(problems)


def test_reminders_name_an_issue() -> None:
    pattern = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?!\(#\d+\))")
    _report(
        [
            f"{name}:{number}: add the number of an issue, (#12), or do it"
            for name, text in _texts()
            for number, line in enumerate(text.splitlines(), 1)
            if name != "LICENSE" and pattern.search(line)
        ]
    )


def test_no_machine_is_named() -> None:
    """Neither a path of one developer's machine nor a package registry."""
    paths = r"(?<![\w.])/(work|root|Users)/"
    registries = r"--(extra-)?index-url|--find-links|https?://[^\s]*/simple\b"
    pattern = re.compile(f"{paths}|{registries}")
    _report(
        [
            f"{name}:{number}: {line.strip()[:80]}"
            for name, text in _texts()
            for number, line in enumerate(text.splitlines(), 1)
            if name != "tests/test_tidy.py" and pattern.search(line)
        ]
    )


def test_each_connector_is_in_a_table() -> None:
    connectors = importlib.import_module("forecastd.connectors")
    listed = {
        kind.__module__.rsplit(".", 1)[1]
        for table in (connectors.SOURCES, connectors.SINKS)
        for kind in table.values()
    }
    found = {module.name for module in pkgutil.iter_modules(connectors.__path__)}
    unlisted = {name for name in found - listed if not name.startswith("codec_")}
    _report([f"{name} is in neither SOURCES nor SINKS" for name in unlisted - set(CONNECTOR_PARTS)])


def test_the_tables_of_exceptions_are_no_longer_than_needed() -> None:
    lines = {name: text.count("\n") for name, text in _texts()}
    functions = {
        f"{name}::{node.name}": _code_lines(node)
        for name, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    stale = [name for name in LONG_FILES if lines.get(name, 0) <= FILE_LINES_MAX]
    stale += [name for name in LONG_FUNCTIONS if functions.get(name, 0) <= FUNCTION_LINES_MAX]
    stale += [name for name in LARGE_FILES if not (PROJECT / name).exists()]
    _report([f"{name} needs its exception no more" for name in stale])
