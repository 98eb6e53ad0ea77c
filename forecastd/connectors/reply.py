"""Sink `reply`: a forecast goes back on the connection its observation came from."""

from __future__ import annotations

from typing import Literal

from forecastd.connectors.contract import ForecastLines, Format, Position, Surroundings
from forecastd.settings import Settings


class ReplySettings(Settings):
    """[sinks.NAME] type = "reply"."""

    type: Literal["reply"]


class ReplySink:
    """Answers clients of socket sources; forecasts of other sources, or of clients gone, drop.

    `flush` returns when every client's kernel has its forecasts. A client that does not read
    within its write timeout is closed and counted, so one client cannot hold up the others.
    """

    format: Format = "ndjson"

    def __init__(
        self,
        name: str,
        settings: ReplySettings,
        surroundings: Surroundings,
        position: Position | None = None,
    ) -> None:
        self.name = name
        self._connections = surroundings.connections

    def write(self, batch: ForecastLines) -> None:
        """Send each line to its connection. Does not block: a rest is sent when there is room."""
        if batch.tags is None:
            return
        if len(batch.tags) and (batch.tags == batch.tags[0]).all():
            self._connections.send(int(batch.tags[0]), batch.data)
            return
        by_tag: dict[int, list[bytes]] = {}
        for tag, line in zip(batch.tags.tolist(), batch.lines, strict=True):
            by_tag.setdefault(tag, []).append(line)
        for tag, lines in by_tag.items():
            self._connections.send(tag, b"".join(lines))

    def flush(self) -> None:
        """Wait for the clients' kernels, each at most its write timeout."""
        self._connections.flush()

    def position(self) -> Position:
        """Return {}: what a client got cannot be taken back."""
        return {}

    def close(self) -> None:
        """Do nothing: connections belong to their source."""
