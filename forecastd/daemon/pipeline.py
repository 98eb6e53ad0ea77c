"""The flow of a daemon: source, decode, step, encode, sink, and a commit when it is due.

Everything happens between two ticks or within one, in one thread, so states, positions and what
was written always belong together.
"""

from __future__ import annotations

import select
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from forecastd.connectors.codec_ndjson import Decoded, Decoder, Encoder, UnknownColumns
from forecastd.connectors.codec_time import TimeUnit
from forecastd.connectors.connections import Clock
from forecastd.connectors.contract import (
    Batch,
    ForecastLines,
    Format,
    FrameBatch,
    Sink,
    Source,
    SourceEnded,
)
from forecastd.daemon.dead_letter import DeadLetter
from forecastd.daemon.emission import Emission, Stretch, answer, stretches
from forecastd.daemon.policy import EmitSettings
from forecastd.runtime import checkpoint
from forecastd.runtime.checkpoint import Checkpoint
from forecastd.runtime.stepper import Stepper
from forecastd.series import ForecastBatch, Reject, Signature


class Translation:
    """How input becomes observations of one model and its forecasts become output.

    The codec of Arrow is made when a stream has that format, for it imports pyarrow.
    """

    def __init__(
        self,
        signature: Signature,
        unknown_columns: UnknownColumns = "reject",
        time_unit: TimeUnit | None = None,
    ) -> None:
        self._signature = signature
        self._unknown_columns: UnknownColumns = unknown_columns
        self._time_unit: TimeUnit | None = time_unit
        self.decoder = Decoder(signature.entering, unknown_columns, time_unit)
        self.encoder = Encoder(signature)

    @classmethod
    def of(
        cls,
        stepper: Stepper,
        unknown_columns: UnknownColumns = "reject",
        time_unit: TimeUnit | None = None,
    ) -> Translation:
        """Return the translation for a stepper's signature."""
        return cls(stepper.signature, unknown_columns, time_unit)

    def decode(self, batch: Batch) -> Decoded:
        """Return observations and rejects of a batch in any format."""
        if isinstance(batch, FrameBatch):
            decoded: Decoded = self._arrow[0].decode(batch)
            return decoded
        return self.decoder.decode(batch)

    def encode(self, forecasts: ForecastBatch, form: Format) -> ForecastLines:
        """Return forecasts in a format."""
        if form == "arrow":
            lines: ForecastLines = self._arrow[1].encode(forecasts)
            return lines
        return self.encoder.encode(forecasts)

    @cached_property
    def _arrow(self) -> tuple[Any, Any]:
        from forecastd.connectors.codec_arrow import ArrowDecoder, ArrowEncoder

        decoder = ArrowDecoder(self._signature.entering, self._unknown_columns, self._time_unit)
        return decoder, ArrowEncoder(self._signature)


@dataclass
class TickCounts:
    """What one tick, or many added up, did."""

    received: Counter[str] = field(default_factory=Counter)  # lines by source
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    examples: dict[str, Reject] = field(default_factory=dict)  # the first reject of each reason
    observations: int = 0
    forecasts: int = 0
    requests: int = 0
    filled: int = 0
    resets: int = 0
    step_s: float = 0.0
    ended: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """All lines taken from sources."""
        return self.received.total()

    def add(self, other: TickCounts) -> None:
        """Add the counts of another tick."""
        self.received += other.received
        self.rejected += other.rejected
        self.examples = other.examples | self.examples
        self.observations += other.observations
        self.forecasts += other.forecasts
        self.requests += other.requests
        self.filled += other.filled
        self.resets += other.resets
        self.step_s += other.step_s
        self.ended += other.ended


@dataclass
class Committed:
    """A commit that was done: when by the pipeline's clock, how long it took, how large it is."""

    at: float
    duration_s: float
    size_bytes: int


@dataclass
class Connectors:
    """Open sources and sinks by name."""

    sources: dict[str, Source]
    sinks: dict[str, Sink]

    def close(self) -> None:
        """Close all of them."""
        for source in self.sources.values():
            source.close()
        for sink in self.sinks.values():
            sink.close()


class Timing(NamedTuple):
    """When things are due: a commit, so long after the last if something changed; forecasts."""

    commit_interval_s: float
    emit: EmitSettings = EmitSettings()


class Pipeline:
    """Owns the stepper and the order of things; see `tick` and `commit`.

    checkpoint_path: None keeps states in memory only.
    """

    def __init__(
        self,
        model: tuple[Stepper, Translation],
        connectors: Connectors,
        dead_letter: DeadLetter | None,
        checkpoint_path: Path | None,
        timing: Timing,
        clock: Clock,
    ) -> None:
        self.stepper, self.translation = model
        self.emission = Emission(timing.emit, self.stepper.arena.series_max, clock)
        self.connectors = connectors
        self.counts = TickCounts()
        self.committed: Committed | None = None
        self._dead_letter = dead_letter
        self._checkpoint_path = checkpoint_path
        self._commit_interval_s = timing.commit_interval_s
        self._clock = clock
        self._running = dict(connectors.sources)
        self._changed = True  # the first commit marks where sources and sinks began

    @property
    def running(self) -> list[Source]:
        """The sources that have not ended."""
        return list(self._running.values())

    def tick(self) -> TickCounts:
        """Take one batch of every source through to the sinks, then commit if that is due.

        Forecasts whose time has come go out too. With nothing more to take, the stepper makes
        ahead what it can, after the sinks have theirs.

        Returns what was done. Raises PeerError when a source, a sink or the disk fails: nothing
        is lost then, for a new start goes on from the last commit.
        """
        counts = TickCounts()
        for name, source in list(self._running.items()):
            try:
                batch = source.next_batch()
            except SourceEnded:
                del self._running[name]
                counts.ended.append(name)
                continue
            if len(batch):
                self._process(batch, counts)
        self._send_waiting(self.emission.due(self.stepper), counts)
        self._changed = self._changed or counts.lines > 0
        self.counts.add(counts)
        if counts.lines and not self._more_has_come():
            self.stepper.prepare()
        if self._is_due():
            self.commit()
        return counts

    def commit(self) -> None:
        """Make everything up to now durable.

        1. Sinks are flushed, and the dead-letter file, so no state is newer than its forecasts.
        2. States and positions become durable as one file; the old one exists until then, and the
           file of evicted series, which only grows, is durable before.
        3. Sources are acknowledged: only now may a peer forget what it sent.

        A crash before 2 ends goes back to the old positions: the same forecasts come again, with
        the same (series, origin). A crash before 3 ends: peers ask for the position on return.
        """
        started = self._clock()
        sinks, sources = self.connectors.sinks, self.connectors.sources
        # 1
        for sink in sinks.values():
            sink.flush()
        if self._dead_letter is not None:
            self._dead_letter.flush()
        # 2
        positions: dict[str, dict[str, Any]] = {
            "sources": {name: source.position() for name, source in sources.items()},
            "sinks": {name: sink.position() for name, sink in sinks.items()},
            "emit": self.emission.position(),
        }
        size_bytes = self._save(positions)
        # 3
        for name, source in sources.items():
            source.acknowledge(positions["sources"][name])
        self._changed = False
        now = self._clock()
        self.committed = Committed(now, now - started, size_bytes)

    def seconds_to_commit(self) -> float | None:
        """Return how long until a commit is due; None if there is nothing to commit."""
        if not self._changed or self.committed is None:
            return None
        return max(0.0, self.committed.at + self._commit_interval_s - self._clock())

    def seconds_to_work(self) -> float | None:
        """Return how long until a commit or forecasts are due; None if neither will be."""
        left = self.seconds_to_commit(), self.emission.seconds_left()
        return min((each for each in left if each is not None), default=None)

    def swap(self, model: tuple[Stepper, Translation], timing: Timing) -> TickCounts:
        """Go on with another model, and commit so that a new start finds its states.

        Forecasts that wait for their time go out first; their counts are returned.
        """
        counts = self._send_rest()
        left = self.stepper.arena.evicted
        self.stepper, self.translation = model
        self._commit_interval_s = timing.commit_interval_s
        self.emission = Emission(timing.emit, self.stepper.arena.series_max, self._clock)
        self._changed = True
        self.commit()
        if left is not None:
            left.close()
        return counts

    def end(self) -> TickCounts:
        """Send the forecasts that wait for their time, and commit; return their counts."""
        counts = self._send_rest()
        self.commit()
        return counts

    def drain(self) -> None:
        """Let sources give what has arrived and then end."""
        for source in self.running:
            source.drain()

    def close(self) -> None:
        """Close sources, sinks and the dead-letter file without a commit."""
        self.connectors.close()
        if self._dead_letter is not None:
            self._dead_letter.close()
        if self.stepper.arena.evicted is not None:
            self.stepper.arena.evicted.close()

    def _process(self, lines: Batch, counts: TickCounts) -> None:
        decoded = self.translation.decode(lines)
        self._reject([*lines.rejects, *decoded.rejects], counts)
        for stretch in stretches(decoded):
            self._step(stretch, lines.source, counts)
            self._answer(stretch, lines.source, counts)
        counts.received[lines.source] += len(lines)

    def _step(self, stretch: Stretch, source: str, counts: TickCounts) -> None:
        started = self._clock()
        result = self.emission.step(self.stepper, stretch.batch)
        counts.step_s += self._clock() - started
        refused = [
            Reject(reason, source, stretch.lines[row], _REFUSED[reason])
            for row, reason in result.refused
        ]
        self._reject(refused, counts)
        self._send(result.forecasts, counts)
        counts.observations += len(stretch.batch) - len(refused)
        counts.filled += result.filled
        counts.resets += result.resets

    def _answer(self, stretch: Stretch, source: str, counts: TickCounts) -> None:
        requests = stretch.requests
        if requests is None:
            return
        forecasts, unknown = answer(self.stepper, requests)
        detail = "a forecast of a series that has no observation yet was asked for"
        rows = unknown.tolist()
        rejects = [Reject("unknown_series", source, requests.lines[row], detail) for row in rows]
        self._reject(rejects, counts)
        self._send(forecasts, counts)
        counts.requests += len(forecasts)

    def _send(self, forecasts: ForecastBatch, counts: TickCounts) -> None:
        encoded: dict[Format, ForecastLines] = {}
        for sink in self.connectors.sinks.values():
            if sink.format not in encoded:
                encoded[sink.format] = self.translation.encode(forecasts, sink.format)
            sink.write(encoded[sink.format])
        counts.forecasts += len(forecasts)

    def _send_waiting(self, waiting: Iterable[ForecastBatch], counts: TickCounts) -> None:
        for forecasts in waiting:
            self._send(forecasts, counts)
            self._changed = True

    def _send_rest(self) -> TickCounts:
        counts = TickCounts()
        self._send_waiting(self.emission.rest(self.stepper), counts)
        self.counts.add(counts)
        return counts

    def _more_has_come(self) -> bool:
        poll = select.poll()
        for source in self.running:
            for descriptor in source.descriptors():
                poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def _reject(self, rejects: list[Reject], counts: TickCounts) -> None:
        for reject in rejects:
            counts.rejected[reject.reason] += 1
            counts.examples.setdefault(reject.reason, reject)
        if rejects and self._dead_letter is not None:
            self._dead_letter.append(rejects)

    def _is_due(self) -> bool:
        wanted = any(source.commit_wanted for source in self.connectors.sources.values())
        return wanted or self.seconds_to_commit() == 0.0

    def _save(self, positions: dict[str, Any]) -> int:
        if self._checkpoint_path is None:
            return 0
        arena = self.stepper.arena
        evicted = None if arena.evicted is None else arena.evicted.settle()
        content = Checkpoint(self.stepper.digest, arena.view(), positions, evicted)
        size_bytes = checkpoint.save(self._checkpoint_path, content)
        arena.clean()
        if arena.evicted is not None:
            arena.evicted.settled()
        return size_bytes


_REFUSED = {
    "late": "older than the newest observation of its series",
    "repeat": "its series already has an observation at this time",
    "arena_full": "a new series, but there are series_max series already",
}
