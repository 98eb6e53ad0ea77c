"""How far the reading and sorting of a data set is: a bar for each stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from forecast_cli.output import Progress, progress

if TYPE_CHECKING:  # help does not need it
    from forecastd.data.preparing import PrepareProgress, Report


@contextlib.contextmanager
def stages(title: str) -> Iterator[Report]:
    """Show stages on stderr while the block runs; the function given is told how far each is."""
    with contextlib.ExitStack() as stack:
        newest, shown = "", 0
        bar: Progress | None = None

        def show(now: PrepareProgress) -> None:
            nonlocal newest, shown, bar
            if bar is None or now.stage != newest:
                stack.close()
                bar = stack.enter_context(progress(f"{title} ({now.stage})", now.rows_total))
                newest, shown = now.stage, 0
            left = "" if now.seconds_left is None else f", {now.seconds_left:.0f} s left"
            bar.advance(now.rows - shown, f"rows, {now.bytes / 1e6:,.0f} MB{left}")
            shown = now.rows

        yield show
