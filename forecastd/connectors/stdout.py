"""Sink `stdout`: forecasts as lines on standard output."""

from __future__ import annotations

from typing import Literal

from forecastd.config import Settings
from forecastd.connectors.contract import ForecastLines, Position, Surroundings
from forecastd.connectors.file import write_all


class StdoutSettings(Settings):
    """[sinks.NAME] type = "stdout"."""

    type: Literal["stdout"]


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
        self._descriptor = descriptor

    def write(self, batch: ForecastLines) -> None:
        """Write the lines. Raises BrokenPipeError when the reader is gone."""
        write_all(self._descriptor, batch.data, "standard output")

    def flush(self) -> None:
        """Do nothing: every write has reached the kernel."""

    def position(self) -> Position:
        """Return {}: what a reader took cannot be taken back."""
        return {}

    def close(self) -> None:
        """Do nothing: this class did not open the descriptor."""
