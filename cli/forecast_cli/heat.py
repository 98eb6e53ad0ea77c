"""Heat maps: units down, steps across; as characters for the terminal, and as PNG."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast_cli.output import is_screen

if TYPE_CHECKING:  # help does not need it
    from numpy.typing import NDArray

SHADES = " ░▒▓█"
BLUE_TO_RED = (19, 26, 33, 75, 153, 255, 224, 210, 203, 160, 124)
"""Colours of the 256 of a terminal, from the least value to the greatest."""
WIDTH = 72
UNITS_SHOWN = 10


def heat_map(values: NDArray[Any], title: str, *, width: int = WIDTH) -> str:
    """Return values [T, units] as lines: the first units, each cell the mean of its steps.

    Dark to light, or blue to red where stdout is a terminal, from the least to the greatest value.
    """
    import numpy as np

    shown = values[:, :UNITS_SHOWN].T
    edges = np.linspace(0, shown.shape[1], min(width, shown.shape[1]) + 1).astype(int)
    pairs = list(itertools.pairwise(edges.tolist()))
    cells = np.stack([shown[:, a:b].mean(1) for a, b in pairs], 1)
    low, high = float(values.min()), float(values.max())
    place = (cells - low) / (high - low) if high > low else np.zeros_like(cells)
    colour = is_screen(sys.stdout)
    lines = [f"{title}, {low:.3g} to {high:.3g}"]
    for unit, row in enumerate(place):
        lines.append(f"{unit:>4} " + "".join(_cell(float(share), colour) for share in row))
    hidden = values.shape[1] - len(shown)
    steps = f"{values.shape[0]} steps, {values.shape[0] / len(pairs):.3g} a column"
    lines.append(" " * 5 + steps + (f"; {hidden} more units" if hidden else ""))
    return "\n".join(lines)


def save_png(values: NDArray[Any], title: str, path: Path) -> None:
    """Write values [T, units] as a picture. Raises UserError where that cannot be done."""
    from forecastd.errors import UserError

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        message = "a picture needs the package matplotlib"
        raise UserError(message, hint="pip install 'forecastd[pictures]'") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values.T, aspect="auto", interpolation="nearest", cmap="coolwarm")
    axes.set(title=title, xlabel="step", ylabel="unit")
    figure.colorbar(image)
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise UserError(message) from error


def _cell(share: float, colour: bool) -> str:
    if colour:
        code = BLUE_TO_RED[min(int(share * len(BLUE_TO_RED)), len(BLUE_TO_RED) - 1)]
        return f"\x1b[48;5;{code}m \x1b[0m"
    return SHADES[min(int(share * len(SHADES)), len(SHADES) - 1)]
