"""The kernel stepper: advances live series on the CPU with the kernels, without torch.

A forecast does not depend, to the last bit, on which others arrived with it: each number is one
chain of operations in one order, whatever the size of the batch and whatever the thread.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from forecastd.artifact import Artifact
from forecastd.errors import BugError
from forecastd.runtime.kernels import step as kernels
from forecastd.runtime.kernels.compiling import direct
from forecastd.runtime.kernels.program import Batch, Program, new_arena
from forecastd.runtime.kernels.support import unsupported
from forecastd.runtime.kernels.table import (
    AHEAD,
    FORECAST,
    FORECAST_STEPS,
    LATE,
    NO_SLOT,
    REPEAT,
    STEP,
    TASK,
)
from forecastd.runtime.stepper import StepResult, claim_rows
from forecastd.series import FloatArray, ForecastBatch, IntArray, Keys, ObservationBatch

__all__ = ["KernelStepper", "unsupported"]

ROWS_PER_THREAD = 512
"""A second thread takes part from so many rows for each; handing over costs some 50 us."""

AHEAD_ROWS_MAX = 64
"""Latency mode is for few observations at a time; more go in blocks, which do not need it."""

_REFUSED = {LATE: "late", REPEAT: "repeat", NO_SLOT: "arena_full"}


class KernelStepper:
    """See runtime.stepper.Stepper. The model must be one that `unsupported` finds nothing in.

    threads: how many step at most, all cores if None; series are shared out by slot. latency: after
    the replies, `prepare` makes the recurrent half of the next step of each series that was just
    stepped, so that on arrival only its inputs are multiplied; that takes 16 bytes more per unit.
    """

    def __init__(
        self,
        artifact: Artifact,
        series_max: int,
        threads: int | None = None,
        *,
        latency: bool = False,
    ) -> None:
        missing = unsupported(artifact.spec)
        if missing is not None:
            message = f"the kernels were given {missing}"
            raise BugError(message)
        self.signature = artifact.signature
        self.digest = artifact.digest
        self.arena = new_arena(artifact.spec, series_max)
        self.batch = Batch.of(artifact.spec)
        self._vocabulary = artifact.vocabulary
        self.programs = [Program(artifact, self.arena, self.batch)]
        for _ in range(1, threads or len(os.sched_getaffinity(0))):
            self.programs.append(Program(artifact, self.arena, self.batch, self.programs[0]))
        self._others = ThreadPoolExecutor(max(1, len(self.programs) - 1), "step")
        self._places = np.arange(self.batch.capacity)
        self._stepped = np.empty(0, np.int64)
        if latency:
            self._make_ahead(series_max)
        self._kernel = direct(kernels.run)

    def step(self, batch: ObservationBatch, *, forecast: int = 1) -> StepResult:
        """Use a batch: the k-th observation of each series goes into the k-th wave."""
        slots = claim_rows(self.arena, self._vocabulary, batch)
        count, capacity = len(batch), self.batch.capacity
        status, given = np.empty(count, np.uint8), np.empty(count, np.uint8)
        values = []
        for program in self.programs:
            program.table[FORECAST_STEPS] = forecast
        filled = resets = 0
        for start in range(0, count, capacity):
            part = slice(start, min(start + capacity, count))
            counts = self._run(slots[part], batch, part)
            filled, resets = filled + int(counts[0]), resets + int(counts[1])
            size = part.stop - part.start
            status[part], given[part] = self.batch.status[:size], self.batch.given[:size]
            values.append(self._given(size))
        self._stepped = slots
        refused = [(int(row), _REFUSED[int(status[row])]) for row in status.nonzero()[0]]
        forecasts = self._forecasts(batch, values, given.nonzero()[0])
        return StepResult(forecasts, refused, filled, resets, slots)

    def forecast(self, slots: IntArray) -> ForecastBatch:
        """Return the forecasts of live series from their states as they are."""
        capacity = self.batch.capacity
        values = np.empty((len(slots), *self.batch.out.shape[1:]), np.float32)
        for start in range(0, len(slots), capacity):
            part = slots[start : start + capacity]
            self._do(FORECAST, part)
            values[start : start + capacity] = self.batch.out[: len(part)]
        return ForecastBatch(self.arena.keys_at(slots), self.arena.rows["last_time"][slots], values)

    def prepare(self) -> None:
        """In latency mode, make the recurrent half of the next step of the series just stepped.

        A block of series does not use it, so nothing is made after a batch of many.
        """
        if self.arena.derived is None or len(self._stepped) > AHEAD_ROWS_MAX:
            return
        self._do(AHEAD, self._stepped)

    def _given(self, size: int) -> FloatArray:
        """Return a copy of the forecasts given after the first `size` rows of the batch."""
        given = self.batch.given[:size].view(np.bool_)
        forecasts: FloatArray = self.batch.out[:size]
        return forecasts.copy() if given.all() else forecasts[given]

    def _forecasts(
        self, batch: ObservationBatch, values: list[FloatArray], rows: IntArray
    ) -> ForecastBatch:
        """Return what was given after `rows` of a batch."""
        if not len(rows):
            nothing = np.empty((0, *self.batch.out.shape[1:]), np.float32)
            return ForecastBatch(Keys.empty(), np.empty(0, np.int64), nothing)
        together = values[0] if len(values) == 1 else np.concatenate(values)
        if len(rows) == len(batch):
            return ForecastBatch(batch.keys, batch.times, together, batch.tags)
        tags = None if batch.tags is None else batch.tags[rows]
        return ForecastBatch(batch.keys.take(rows), batch.times[rows], together, tags)

    def _make_ahead(self, series_max: int) -> None:
        width = self.programs[0].ahead_width
        ahead, self.arena.derived = (
            np.zeros((series_max, width), np.float32),
            np.zeros(series_max, np.uint8),
        )
        for program in self.programs:
            program.use_ahead(ahead, self.arena.derived)

    def _do(self, task: int, slots: IntArray) -> None:
        """Have the first program do a task for live series."""
        count, program = len(slots), self.programs[0]
        self.batch.slots[:count], program.rows[:count] = slots, self._places[:count]
        program.table[TASK] = task
        self._kernel(program.table, count)
        program.table[TASK] = STEP

    def _run(self, slots: IntArray, batch: ObservationBatch, part: slice) -> IntArray:
        """Step one stretch of a batch; return how many steps were filled in and series reset."""
        size = len(slots)
        ours = self.batch
        ours.slots[:size], ours.times[:size] = slots, batch.times[part]
        ours.values[:size] = batch.values[part]
        threads = min(len(self.programs), size // ROWS_PER_THREAD)
        if threads <= 1:
            only = self.programs[0]
            only.rows[:size], only.counts[:] = self._places[:size], 0
            self._kernel(only.table, size)
            return only.counts
        programs = self.programs[:threads]
        shares = [np.flatnonzero(slots % threads == number) for number in range(threads)]
        for program, share in zip(programs, shares, strict=True):
            program.rows[: len(share)] = share
            program.counts[:] = 0
        others = [
            self._others.submit(self._kernel, program.table, len(share))
            for program, share in zip(programs[1:], shares[1:], strict=True)
        ]
        self._kernel(programs[0].table, len(shares[0]))
        for other in others:
            other.result()
        counts: IntArray = np.sum([program.counts for program in programs], 0)
        return counts
