"""The pipeline between standard input and output: `forecast stream`, without a server."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from forecastd.connectors.codec_ndjson import UnknownColumns
from forecastd.connectors.connections import Clock, Connections
from forecastd.connectors.contract import Format, Surroundings
from forecastd.connectors.stdin import StdinSettings, StdinSource
from forecastd.connectors.stdout import StdoutSettings, StdoutSink
from forecastd.daemon.emission import rows_at_once
from forecastd.daemon.pipeline import Connectors, Pipeline, TickCounts, Timing, Translation
from forecastd.daemon.policy import EmitSettings
from forecastd.daemon.restart import FolderLock, restore
from forecastd.daemon.signals import Signals
from forecastd.runtime.stepper import Stepper

COMMIT_INTERVAL_S = 5.0
SHUTDOWN_LIMIT_S = 30.0
_WAIT_S_MAX = 1.0


class StdioResult(NamedTuple):
    """What was done, and the signal that ended it, if one did."""

    counts: TickCounts
    ended_by: signal.Signals | None


class Conduct(NamedTuple):
    """What is read, what is written, and when."""

    unknown_columns: UnknownColumns = "reject"
    form: Format = "ndjson"
    emit: EmitSettings = EmitSettings()


AS_USUAL = Conduct()


def run_stdio(
    stepper: Stepper,
    state_file: Path | None,
    conduct: Conduct = AS_USUAL,
    *,
    descriptors: tuple[int, int] = (0, 1),
    clock: Clock = time.monotonic,
) -> StdioResult:
    """Answer the observations of one descriptor with forecasts on the other, both of one form.

    state_file: states are taken from it and committed to it, at the end and every few seconds;
    None keeps them in memory. SIGINT and SIGTERM finish what has arrived and commit. Must run in
    the main thread. Raises UserError when the states cannot be used, PeerError when reading or
    writing fails, BrokenPipeError when the reader is gone.
    """
    form, positions = conduct.form, {}
    with ExitStack() as stack:
        if state_file is not None:
            lock = FolderLock(state_file.with_name(f".{state_file.name}.lock"), "the states in")
            stack.callback(lock.close)
            positions = restore(stepper, state_file)
        rows = rows_at_once(Surroundings.batch_rows, stepper.signature)
        surroundings = Surroundings(Path(), Connections(clock), clock, rows)
        source = StdinSource(
            "stdin",
            StdinSettings(type="stdin", format=form),
            surroundings,
            descriptor=descriptors[0],
        )
        sink = StdoutSink(
            "stdout",
            StdoutSettings(type="stdout", format=form),
            surroundings,
            descriptor=descriptors[1],
        )
        pipeline = Pipeline(
            (stepper, Translation.of(stepper, conduct.unknown_columns)),
            Connectors({"stdin": source}, {"stdout": sink}),
            None,
            state_file,
            Timing(COMMIT_INTERVAL_S, conduct.emit),
            clock,
        )
        pipeline.emission.resume(positions.get("emit", {}))
        stack.callback(pipeline.close)
        return _serve(pipeline, clock)


def _serve(pipeline: Pipeline, clock: Clock) -> StdioResult:
    signals = Signals()
    with signals.handled():
        pipeline.commit()
        while pipeline.running and signals.stop is None:
            counts = pipeline.tick()
            if not counts.lines and not counts.ended:
                descriptors = [each for source in pipeline.running for each in source.descriptors()]
                left = pipeline.seconds_to_work()
                signals.wait(descriptors, _WAIT_S_MAX if left is None else min(left, _WAIT_S_MAX))
        pipeline.drain()
        deadline = clock() + SHUTDOWN_LIMIT_S
        while pipeline.running and clock() < deadline:
            pipeline.tick()
        pipeline.end()
    return StdioResult(pipeline.counts, signals.stop)
