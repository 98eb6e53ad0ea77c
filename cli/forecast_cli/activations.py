"""`forecast activations`: what passes inside a network over a data set, step by step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forecast_cli.preparing import MemoryOption

if TYPE_CHECKING:  # help does not need them
    from forecastd.scoring.activations import Part
    from forecastd.series import FloatArray

STEPS_DRAWN = 10_000
"""A picture has no more steps: it is for eyes."""


def activations(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    data: Annotated[str, typer.Argument(help="The data set to run through it.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The Parquet file to write.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="A layer, or input; again for more. Default: all.")
    ] = None,
    series: Annotated[
        list[str] | None, typer.Option(help="A series; again for more. Default: all.")
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Rows of each series to keep, as 0:200, from 0.")
    ] = None,
    what: Annotated[
        str, typer.Option(help="What is drawn: out, a gate (i, f, g, o; r, z, h), or cell.")
    ] = "out",
    png: Annotated[Path | None, typer.Option(help="Also draw the heat map as this PNG.")] = None,
    memory: MemoryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what each layer gives at each step, and the gates of recurrences; nothing changes."""
    import tempfile

    from forecast_cli.heat import heat_map, save_png
    from forecast_cli.opening import opened
    from forecast_cli.output import note, print_json
    from forecastd.scoring.activations import View, default_layer, write_activations

    view = View(layer or None, series or None, _rows(rows))
    with opened(model, data, memory=memory) as (trained, store), tempfile.TemporaryDirectory() as t:
        drawn = _Drawn((layer or [default_layer(trained)])[0], what)
        target = output or Path(t) / "activations.parquet"
        result = write_activations(trained, store, target, view, drawn.keep)
    values = drawn.values()
    title = f"{drawn.layer} {what} of {drawn.series}"
    if png is not None:
        save_png(values, title, png)
    if as_json:
        print_json({"path": output, "png": png, "series": result.series, "rows": result.rows})
        return
    if output is None:
        print(heat_map(values, title))
        return
    note(heat_map(values, title))
    note(f"{result.rows:,} rows of {result.series:,} series")
    print(output)


class _Drawn:
    """The first series of one layer, for a picture."""

    def __init__(self, layer: str, what: str) -> None:
        self.layer, self.what, self.series = layer, what, ""
        self._parts: list[FloatArray] = []
        self._seen: set[str] = set()

    def keep(self, part: Part) -> None:
        """Take a part, if it is of the first series."""
        self.series = self.series or part.series
        if part.series != self.series:
            return
        for layer, what, values in part.seen:
            if layer == self.layer:
                self._seen.add(what)
                room = STEPS_DRAWN - sum(map(len, self._parts))
                if what == self.what and room > 0:
                    self._parts.append(values[:room])

    def values(self) -> FloatArray:
        """Return [T, units]. Raises UserError where there is nothing of that name."""
        import numpy as np

        from forecastd.errors import UserError

        if not self._parts:
            message = f"there is no {self.what!r} of {self.layer!r} in these rows"
            known = ", ".join(sorted(self._seen)) or "nothing"
            raise UserError(message, hint=f"there is {known}")
        return np.concatenate(self._parts)


def _rows(text: str | None) -> tuple[int, int | None]:
    """Read 0:200, 100: or :50. Raises UserError."""
    from forecastd.errors import UserError

    if text is None:
        return 0, None
    match = re.fullmatch(r"(\d*):(\d*)", text.strip())
    if match is None or (match[1] and match[2] and int(match[1]) >= int(match[2])):
        message = f"--rows {text} is no span of rows"
        raise UserError(message, hint="write FIRST:END, as 0:200, 100: or :50")
    return int(match[1] or 0), int(match[2]) if match[2] else None
