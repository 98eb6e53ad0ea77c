"""What commands print: data on stdout, everything else on stderr.

Colours and bars only where a person looks at a terminal; NO_COLOR and TERM=dumb are honoured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Protocol, TextIO

PLAIN_INTERVAL_S = 10.0


def is_screen(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that may be coloured and redrawn."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in {"", "dumb"}:
        return False
    return stream.isatty()


def note(text: str) -> None:
    """Print a remark for the person on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """Print a value as JSON on stdout; NaN and infinities become null.

    Understands dataclasses, named tuples as lists, paths, and numpy numbers and arrays.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    print(text)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a table on stdout: framed on a terminal, aligned plain text otherwise.

    Columns of numbers are aligned right. None is an empty cell.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        for index in range(len(columns))
    ]
    if is_screen(sys.stdout):
        _print_framed(columns, cells, numeric, title)
    else:
        _print_aligned(columns, cells, numeric, title)


class Progress(Protocol):
    """How a long job tells how far it is. Both methods are cheap and never raise."""

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Count `amount` more of the total; `text` replaces the remark beside the bar."""
        ...

    def line(self, text: str) -> None:
        """Print one lasting line, for example the result of an epoch."""
        ...


@contextlib.contextmanager
def progress(
    title: str, total: int | None, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """Show the progress of a job on stderr while the block runs.

    total: how many `advance` will be counted; None where nobody knows. A bar on a terminal;
    otherwise plain lines, one at most every PLAIN_INTERVAL_S besides those given to `line`.
    """
    if not is_screen(sys.stderr):
        yield _PlainProgress(title, total, clock)
        return
    from rich import progress as rich_progress
    from rich.console import Console

    shown = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[remark]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with shown:
        yield _BarProgress(shown, shown.add_task(title, total=total, remark=""))


def follow(bar: Progress) -> Callable[[int, int], None]:
    """Return a function that takes how much is done so far, and the total, and moves the bar."""
    shown = 0

    def show(done: int, _total: int) -> None:
        nonlocal shown
        bar.advance(done - shown)
        shown = done

    return show


class _PlainProgress:
    """Lines for logs and pipes."""

    def __init__(self, title: str, total: int | None, clock: Callable[[], float]) -> None:
        self._title = title
        self._total = total
        self._clock = clock
        self._done = 0
        self._printed_at = clock()

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Count, and print a line when the last one is long ago."""
        self._done += amount
        if self._clock() - self._printed_at >= PLAIN_INTERVAL_S:
            of_total = "" if self._total is None else f"/{self._total}"
            self.line(f"{self._title} {self._done}{of_total} {text}".rstrip())

    def line(self, text: str) -> None:
        """Print a line at once."""
        self._printed_at = self._clock()
        note(text)


class _BarProgress:
    """A bar that is redrawn in place."""

    def __init__(self, shown: Any, task: Any) -> None:
        self._shown = shown
        self._task = task

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Move the bar."""
        remark = {"remark": text} if text else {}
        self._shown.update(self._task, advance=amount, **remark)

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        self._shown.console.print(text, markup=False, highlight=False)


def _print_framed(
    columns: Sequence[str], cells: list[list[str]], numeric: list[bool], title: str | None
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(Text(name), justify="right" if right else "left")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _print_aligned(
    columns: Sequence[str], cells: list[list[str]], numeric: list[bool], title: str | None
) -> None:
    if title:
        print(title)
    lines = [list(columns), *cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        aligned = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(aligned).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)


def _plain(value: Any) -> Any:
    """Return `value` in the types that JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, PurePath):
        value = str(value)
    elif hasattr(value, "tolist"):  # numpy, which this module does not import
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite else None
