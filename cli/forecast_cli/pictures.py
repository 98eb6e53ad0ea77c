"""Pictures for the terminal: a forecast with its band as characters, and bars.

A shaded band needs cells; libraries of braille dots draw lines only, and four lines of dots
without colour cannot be told apart.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from forecast_cli.output import is_screen

HEIGHT = 18
BAR_WIDTH = 40
AXIS_WIDTH = 9
BAND, FORECAST, ACTUAL, BOTH = "░", "─", "●", "◉"
_STYLES = {BAND: "34", FORECAST: "96", ACTUAL: "97", BOTH: "97"}


class Column(NamedTuple):
    """One moment. Any value may be NaN; `label` names the moment on the axis."""

    actual: float
    forecast: float
    lower: float
    upper: float
    label: str = ""


def fan_chart(columns: Sequence[Column], unit: str) -> str:
    """Return a chart of actual values over the forecast and its band, coloured on a terminal."""
    values = [v for c in columns for v in (c.actual, c.forecast, c.lower, c.upper)]
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    step = (high - low) / (HEIGHT - 1) or 1.0
    grid = [[" "] * len(columns) for _ in range(HEIGHT)]
    for place, column in enumerate(columns):
        _draw(grid, place, column, low, step)
    colour = is_screen(sys.stdout)
    lines = [f"{unit:>{AXIS_WIDTH}}"]
    for row in range(HEIGHT - 1, -1, -1):
        tick = f"{low + row * step:.1f}" if row % 3 == 0 else ""
        cells = "".join(_paint(cell, colour) for cell in grid[row])
        lines.append(f"{tick:>{AXIS_WIDTH}} │{cells}")
    lines += [" " * AXIS_WIDTH + " └" + "─" * len(columns), _axis(columns), _legend(colour)]
    return "\n".join(line.rstrip() for line in lines)


def bar_chart(bars: Sequence[tuple[str, int]], titles: tuple[str, str]) -> str:
    """Return a line for each bar: its name, its length as characters, its count."""
    names = [titles[0], *(name for name, _ in bars)]
    counts = [titles[1], *(f"{count:,}" for _, count in bars)]
    most = max((count for _, count in bars), default=0) or 1
    cells = ["", *(_bar(count / most) for _, count in bars)]
    left, right = max(map(len, names)), max(map(len, counts))
    lines = zip(names, counts, cells, strict=True)
    return "\n".join(f"{n:>{left}}  {c:>{right}}  {cell}".rstrip() for n, c, cell in lines)


def _bar(share: float) -> str:
    """Return a bar; what is not nothing shows."""
    return "█" * max(round(share * BAR_WIDTH), 1 if share else 0)


def _draw(grid: list[list[str]], place: int, column: Column, low: float, step: float) -> None:
    def row(value: float) -> int | None:
        return round((value - low) / step) if math.isfinite(value) else None

    bottom, top = row(column.lower), row(column.upper)
    if bottom is not None and top is not None:
        for level in range(max(bottom, 0), min(top, HEIGHT - 1) + 1):
            grid[level][place] = BAND
    forecast, actual = row(column.forecast), row(column.actual)
    if forecast is not None:
        grid[forecast][place] = FORECAST
    if actual is not None:
        grid[actual][place] = BOTH if actual == forecast else ACTUAL


def _axis(columns: Sequence[Column]) -> str:
    line = [" "] * (len(columns) + 12)
    for place, column in enumerate(columns):
        line[place : place + len(column.label)] = column.label
    return " " * (AXIS_WIDTH + 2) + "".join(line)


def _legend(colour: bool) -> str:
    names = [(ACTUAL, "actual"), (FORECAST, "forecast"), (BAND, "80 % band"), (BOTH, "both")]
    shown = "   ".join(f"{_paint(cell, colour)} {name}" for cell, name in names)
    return " " * (AXIS_WIDTH + 2) + shown


def _paint(cell: str, colour: bool) -> str:
    return f"\x1b[{_STYLES[cell]}m{cell}\x1b[0m" if colour and cell in _STYLES else cell
