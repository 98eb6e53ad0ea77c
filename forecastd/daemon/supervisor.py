"""The loop of a daemon: ticks, waiting, reload, and the orderly end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from forecastd.connectors.connections import Clock, Connections
from forecastd.daemon.control import Board
from forecastd.daemon.events import Events
from forecastd.daemon.notify import Notifier
from forecastd.daemon.pipeline import Pipeline, TickCounts, Timing, Translation
from forecastd.daemon.signals import Signals
from forecastd.errors import ForecastError
from forecastd.runtime.stepper import Stepper

WAIT_S_MAX = 1.0
"""The longest wait, so that ages and the watchdog stay current."""


class Reload(NamedTuple):
    """A model ready to take over. states: what became of the states, in words for the log."""

    stepper: Stepper
    translation: Translation
    timing: Timing
    states: str
    needs_restart: list[str]


@dataclass
class Tellers:
    """Everyone who is told what happens."""

    events: Events
    board: Board
    notifier: Notifier


class Supervisor:
    """Runs a pipeline until a signal ends it or, with `once`, its sources have ended."""

    def __init__(
        self,
        pipeline: Pipeline,
        connections: Connections,
        tellers: Tellers,
        build_reload: Callable[[Stepper], Reload],
        clock: Clock,
    ) -> None:
        self._pipeline = pipeline
        self._connections = connections
        self._tellers = tellers
        self._build_reload = build_reload
        self._clock = clock
        self._signals = Signals()
        self._told_commit_at: float | None = None
        self._seen_reasons: set[str] = set()
        self._started_at = clock()

    def run(self, *, once: bool, shutdown_limit_s: float) -> TickCounts:
        """Serve until the end and return what was done.

        An orderly end drains what has arrived and commits. Raises StoppedAtOnce after a second
        signal, ForecastError when a source, a sink or a disk fails.
        """
        with self._signals.handled():
            self._pipeline.commit()
            self._publish(TickCounts())
            self._tellers.board.not_ready = ""
            self._tellers.notifier.ready()
            while self._signals.stop is None and not (once and not self._pipeline.running):
                if self._signals.reload:
                    self._reload()
                counts = self._tick()
                if not counts.lines and not counts.ended:
                    self._wait()
            self._end(shutdown_limit_s)
        return self._pipeline.counts

    def _tick(self) -> TickCounts:
        counts = self._pipeline.tick()
        self._publish(counts)
        self._tellers.notifier.ticked()
        return counts

    def _wait(self) -> None:
        limits = [WAIT_S_MAX, self._pipeline.seconds_to_work()]
        descriptors = []
        for source in self._pipeline.running:
            descriptors += source.descriptors()
            limits.append(source.poll_interval_s)
        self._signals.wait(descriptors, min(limit for limit in limits if limit is not None))

    def _end(self, limit_s: float) -> None:
        """Process what has arrived, send what waits for its time, then commit."""
        self._tellers.board.not_ready = "stopping"
        if self._signals.stop is not None:
            self._tellers.events.stopping(self._signals.stop.name)
            self._tellers.notifier.stopping()
        self._pipeline.drain()
        deadline = self._clock() + limit_s
        while self._pipeline.running and self._clock() < deadline:
            self._tick()
        if self._pipeline.running:
            self._tellers.events.drain_cut_short(limit_s)
        self._publish(self._pipeline.end())
        self._tellers.events.stopped(self._pipeline.counts)

    def _reload(self) -> None:
        """Build first and swap between two ticks, so that a mistake changes nothing."""
        self._signals.reload = False
        self._tellers.notifier.reloading()
        try:
            reload = self._build_reload(self._pipeline.stepper)
        except ForecastError as error:
            self._tellers.events.reload_refused(str(error))
        else:
            model = reload.stepper, reload.translation
            self._publish(self._pipeline.swap(model, reload.timing))
            self._tellers.events.reloaded(reload.states)
            if reload.needs_restart:
                self._tellers.events.reload_needs_restart(reload.needs_restart)
        self._tellers.notifier.ready()

    def _publish(self, counts: TickCounts) -> None:
        events, pipeline = self._tellers.events, self._pipeline
        series = len(pipeline.stepper.arena)
        events.ticked(counts, series)
        new = {why: r for why, r in counts.examples.items() if why not in self._seen_reasons}
        self._seen_reasons.update(new)
        events.first_rejects(new)
        closed = dict(self._connections.closed)
        self._connections.closed.clear()
        events.clients_counted(len(self._connections), closed)
        committed = pipeline.committed
        if committed is not None:
            if committed.at != self._told_commit_at:
                self._told_commit_at = committed.at
                events.committed(committed)
            events.checkpoint_aged(self._clock() - committed.at)
        self._tellers.board.status = self._status()

    def _status(self) -> dict[str, object]:
        pipeline, now = self._pipeline, self._clock()
        committed = pipeline.committed
        return {
            "uptime_s": round(now - self._started_at, 3),
            "series": len(pipeline.stepper.arena),
            "series_max": pipeline.stepper.arena.series_max,
            "lines": pipeline.counts.lines,
            "observations": pipeline.counts.observations,
            "forecasts": pipeline.counts.forecasts,
            "rejects": dict(pipeline.counts.rejected),
            "clients": len(self._connections),
            "checkpoint_age_s": None if committed is None else round(now - committed.at, 3),
            "model_digest": pipeline.stepper.digest,
            "sources": {
                name: "running" if source in pipeline.running else "ended"
                for name, source in pipeline.connectors.sources.items()
            },
            "sinks": list(pipeline.connectors.sinks),
        }
