"""Source `stdin`: lines from standard input until its end."""

from __future__ import annotations

import os
import select
from typing import Literal

from pydantic import Field

from forecastd.connectors.contract import (
    Batch,
    Format,
    Position,
    SourceEnded,
    Surroundings,
    widen_pipe,
)
from forecastd.errors import PeerError
from forecastd.settings import Settings

CHUNK_BYTES = 1 << 19


class StdinSettings(Settings):
    """[sources.NAME] type = "stdin"."""

    type: Literal["stdin"]
    format: Format = Field(
        "ndjson", description="how observations are written: ndjson, or arrow (an IPC stream)"
    )


class StdinSource:
    """Reads descriptor 0 without changing its mode, for a terminal or a pipe may share it.

    Each life has another input, so there is no position to resume.
    """

    poll_interval_s: float | None = None
    commit_wanted = False

    def __init__(
        self,
        name: str,
        settings: StdinSettings,
        surroundings: Surroundings,
        position: Position | None = None,
        *,
        descriptor: int = 0,
    ) -> None:
        self.name = name
        self._surroundings = surroundings
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._splitter = surroundings.splitter(settings.format)
        widen_pipe(descriptor)
        self._at_end = False
        self._draining = False
        self._closed = False

    def next_batch(self) -> Batch:
        """Return what has arrived. The unfinished last line counts as a line at the end."""
        if self._closed:
            raise SourceEnded
        if not self._splitter.has_line and not self._at_end:
            self._read()
        taken = self._splitter.take(self._surroundings.batch_rows)
        if not taken.count and self._at_end:
            taken = self._splitter.finish()
            self._closed = not taken.count
            if self._closed:
                raise SourceEnded
        return self._surroundings.batch(self.name, taken)

    def position(self) -> Position:
        """Return {}: standard input cannot be read again."""
        return {}

    def acknowledge(self, position: Position) -> None:
        """Do nothing: nobody waits at the other end of a pipe."""

    def drain(self) -> None:
        """Read on only while bytes are waiting."""
        self._draining = True

    def descriptors(self) -> list[int]:
        """Return descriptor 0 until its end."""
        return [] if self._at_end or self._closed else [self._descriptor]

    def close(self) -> None:
        """Stop reading; the descriptor itself stays open, for this class did not open it."""
        self._closed = True

    def _read(self) -> None:
        if not self._poll.poll(0):
            self._at_end = self._draining
            return
        try:
            data = os.read(self._descriptor, CHUNK_BYTES)
        except OSError as error:
            message = f"cannot read standard input: {error.strerror}"
            raise PeerError(message) from error
        self._splitter.feed(data)
        self._at_end = not data
