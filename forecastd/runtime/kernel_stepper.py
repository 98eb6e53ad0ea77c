"""The kernel stepper: advances live series on the CPU with the kernels, without torch.

A forecast does not depend, to the last bit, on which others arrived with it: each number is one
chain of operations in one order, whatever the size of the batch and whatever the thread.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from forecastd.artifact import Artifact
from forecastd.runtime.kernels import step as kernels
from forecastd.runtime.kernels.program import CODES, Batch, Program, new_arena, unsupported
from forecastd.runtime.kernels.table import LATE, NO_SLOT, REPEAT, USED
from forecastd.runtime.stepper import StepResult
from forecastd.series import ForecastBatch, IntArray, ObservationBatch

__all__ = ["KernelStepper", "unsupported"]

ROWS_PER_THREAD = 512
"""A second thread takes part from so many rows for each; handing over costs some 50 us."""

_REFUSED = {LATE: "late", REPEAT: "repeat", NO_SLOT: "arena_full"}


class KernelStepper:
    """See runtime.stepper.Stepper. The model must be one that `unsupported` finds nothing in.

    threads: how many step at most; series are shared out by slot.
    """

    def __init__(self, artifact: Artifact, series_max: int, threads: int | None = None) -> None:
        self.signature = artifact.signature
        self.digest = artifact.digest
        self._vocabulary = artifact.vocabulary
        self.arena = new_arena(artifact.spec, series_max)
        self.batch = Batch.of(artifact.spec)
        self.programs = [Program(artifact, self.arena, self.batch)]
        for _ in range(1, threads or os.cpu_count() or 1):
            self.programs.append(Program(artifact, self.arena, self.batch, self.programs[0]))
        self._others = ThreadPoolExecutor(max(1, len(self.programs) - 1), "step")
        kernels.step(self.programs[0].table, 0)

    def step(self, batch: ObservationBatch) -> StepResult:
        """Use a batch: the k-th observation of each series goes into the k-th wave."""
        slots, new = self.arena.claim(batch.keys)
        self._introduce(batch, slots, new)
        count, capacity = len(batch), self.batch.capacity
        status = np.empty(count, np.uint8)
        values = np.empty((count, *self.batch.out.shape[1:]), np.float32)
        filled = resets = 0
        for start in range(0, count, capacity):
            part = slice(start, min(start + capacity, count))
            counts = self._run(slots[part], batch, part)
            filled, resets = filled + int(counts[0]), resets + int(counts[1])
            size = part.stop - part.start
            status[part], values[part] = self.batch.status[:size], self.batch.out[:size]
        if not status.any():
            forecasts = ForecastBatch(batch.keys, batch.times, values, batch.tags)
            return StepResult(forecasts, [], filled, resets)
        used, unused = np.flatnonzero(status == USED), np.flatnonzero(status != USED)
        refused = [(int(row), _REFUSED[int(status[row])]) for row in unused]
        tags = None if batch.tags is None else batch.tags[used]
        forecasts = ForecastBatch(batch.keys.take(used), batch.times[used], values[used], tags)
        return StepResult(forecasts, refused, filled, resets)

    def _introduce(self, batch: ObservationBatch, slots: IntArray, new: IntArray) -> None:
        """Write the category codes of new series into their rows."""
        if not len(new):
            return
        static = {name: [column[row] for row in new] for name, column in batch.static.items()}
        codes = self._vocabulary.encode(batch.keys.take(new), static)
        self.arena.rows[CODES][slots[new]] = codes

    def _run(self, slots: IntArray, batch: ObservationBatch, part: slice) -> IntArray:
        """Step one stretch of a batch; return how many steps were filled in and series reset."""
        size = len(slots)
        ours = self.batch
        ours.slots[:size], ours.times[:size] = slots, batch.times[part]
        ours.values[:size] = batch.values[part]
        threads = min(len(self.programs), max(1, size // ROWS_PER_THREAD))
        programs = self.programs[:threads]
        shares = [np.arange(size)]
        if threads > 1:
            shares = [np.flatnonzero(slots % threads == number) for number in range(threads)]
        for program, share in zip(programs, shares, strict=True):
            program.rows[: len(share)] = share
            program.counts[:] = 0
        others = [
            self._others.submit(kernels.step, program.table, len(share))
            for program, share in zip(programs[1:], shares[1:], strict=True)
        ]
        kernels.step(programs[0].table, len(shares[0]))
        for other in others:
            other.result()
        counts: IntArray = np.sum([program.counts for program in programs], 0)
        return counts
