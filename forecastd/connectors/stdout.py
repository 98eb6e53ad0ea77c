"""Sink `stdout`: forecasts as lines on standard output."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forecastd.connectors.contract import (
    ForecastLines,
    Format,
    Position,
    Surroundings,
    widen_pipe,
)
from forecastd.connectors.file import write_all
from forecastd.settings import Settings


class StdoutSettings(Settings):
    """[sinks.NAME] type = "stdout"."""

    type: Literal["stdout"]
    format: Format = Field(
        "ndjson", description="how forecasts are written: ndjson, or arrow (an IPC stream)"
    )


class StdoutSink:
    """Writes each batch at once to descriptor 1; blocks while the reader is slow."""

    def __init__(
        self,
        name: str,
        settings: StdoutSettings,
        surroundings: Surroundings,
        position: Position | None = None,
        *,
        descriptor: int = 1,
    ) -> None:
        self.name = name
        self.format = settings.format
        self._descriptor = descriptor
        self._has_head = False
        widen_pipe(descriptor)

    def write(self, batch: ForecastLines) -> None:
        """Write the lines. Raises BrokenPipeError when the reader is gone."""
        head = b"" if self._has_head else batch.head
        write_all(self._descriptor, head + batch.data, "standard output")
        self._has_head = True

    def flush(self) -> None:
        """Do nothing: every write has reached the kernel."""

    def position(self) -> Position:
        """Return {}: what a reader took cannot be taken back."""
        return {}

    def close(self) -> None:
        """Do nothing: this class did not open the descriptor."""
