"""The torch stepper: advances live series on any device, in blocks of one fixed size.

The matrix kernels of a library choose their order of summation by the shape of the batch. Every
block here has the same shape, padded with a scratch row, so the forecast of an observation does
not depend on which others arrived with it, to the last bit; a restart repeats itself exactly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.data.grid import missing_stamps
from forecastd.features.encoder import Inputs
from forecastd.network.model import Forecast, NetworkState, flatten, unflatten
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.stepper import CODES, StepResult, claim_rows
from forecastd.series import FloatArray, ForecastBatch, IntArray, ObservationBatch

BLOCK_ROWS = 64


class TorchStepper:
    """See runtime.stepper.Stepper. Sets torch to one thread on CPU: blocks are small."""

    def __init__(self, artifact: Artifact, series_max: int, device: str = "cpu") -> None:
        self.signature = artifact.signature
        self.digest = artifact.digest
        self._artifact = artifact
        self._network = artifact.network.to(device).eval()
        self._device = torch.device(device)
        if self._device.type == "cpu":
            torch.set_num_threads(1)
        self._names = list(self._network.layers)
        self._blank = self._network.initial_state(1)
        flat = flatten(self._blank, self._names)
        fields = {name: (t.numpy(force=True).dtype, tuple(t.shape[1:])) for name, t in flat.items()}
        fields[CODES] = (np.dtype(np.int64), (len(artifact.vocabulary.sizes),))
        layout = row_layout(fields)
        initial = blank_row(layout)
        for name, tensor in flat.items():
            initial[name] = tensor.numpy(force=True)
        self.arena = Arena(layout, series_max, initial)
        head = artifact.spec.head
        self._shape = head.horizon, head.outputs or max(1, len(head.quantiles))

    def step(self, batch: ObservationBatch, *, forecast: int = 1) -> StepResult:
        """Use a batch: the k-th observation of each series goes into the k-th wave."""
        with _denormals_as_zero():
            return self._step(batch, forecast=forecast)

    def forecast(self, slots: IntArray) -> ForecastBatch:
        """Return the forecasts of live series from their states as they are."""
        values = np.empty((len(slots), *self._shape), np.float32)
        for start in range(0, len(slots), BLOCK_ROWS):
            block = slots[start : start + BLOCK_ROWS]
            padding = np.full(BLOCK_ROWS - len(block), self.arena.scratch)
            rows = self.arena.rows[np.concatenate([block, padding])]
            with _denormals_as_zero(), torch.inference_mode():
                made = self._network.forecast(self._gather(rows))
            values[start : start + BLOCK_ROWS] = _numbers(made, len(block))
        return ForecastBatch(self.arena.keys_at(slots), self.arena.rows["last_time"][slots], values)

    def prepare(self) -> None:
        """Do nothing: a step in blocks has nothing to make ahead."""

    def _step(self, batch: ObservationBatch, *, forecast: int) -> StepResult:
        slots = claim_rows(self.arena, self._artifact.vocabulary, batch)
        refused = [(int(row), "arena_full") for row in np.flatnonzero(slots < 0)]
        values = np.empty((len(batch), *self._shape), np.float32)
        given = np.zeros(len(batch), np.bool_)
        filled = resets = 0
        for rows in _waves(slots):
            last = self.arena.rows["last_time"][slots[rows]]
            on_time = batch.times[rows] > last
            refused += [
                (int(row), "repeat" if batch.times[row] == before else "late")
                for row, before in zip(rows[~on_time], last[~on_time], strict=True)
            ]
            rows, last = rows[on_time], last[on_time]
            if len(rows) == 0:
                continue
            counts = self._bridge(slots[rows], last, batch.times[rows])
            filled, resets = filled + counts[0], resets + counts[1]
            steps = self.arena.rows["steps"][slots[rows]] + 1
            wanted = steps % forecast == 0 if forecast else np.zeros(len(rows), np.bool_)
            given[rows] = wanted
            silent, rows = rows[~wanted], rows[wanted]
            self._advance(slots[silent], batch.times[silent], batch.values[silent], forecast=False)
            values[rows] = self._advance(slots[rows], batch.times[rows], batch.values[rows])
        order = np.flatnonzero(given)
        tags = None if batch.tags is None else batch.tags[order]
        forecasts = ForecastBatch(batch.keys.take(order), batch.times[order], values[order], tags)
        return StepResult(forecasts, sorted(refused), filled, resets, slots)

    def _bridge(self, slots: IntArray, last: IntArray, now: IntArray) -> tuple[int, int]:
        """Step over missing stamps, or reset where the hole is too long; return both counts."""
        frequency = self.signature.frequency
        holes, reset = missing_stamps(last, now, frequency, self._artifact.max_gap)
        if reset.any():
            self.arena.reset(slots[reset], keep=(CODES,))
        for missing in range(1, int(holes.max(initial=0)) + 1):
            rows = np.flatnonzero(holes >= missing)
            times = frequency.advance(last[rows], missing)
            nothing = np.full((len(rows), len(self.signature.channels)), np.nan, np.float32)
            self._advance(slots[rows], times, nothing, forecast=False)
        return int(holes.sum()), int(reset.sum())

    def _advance(
        self, slots: IntArray, times: IntArray, values: FloatArray, *, forecast: bool = True
    ) -> FloatArray:
        """Step series (each at most once) and return their forecasts [n, horizon, Q], if wanted."""
        forecasts = [np.empty((0, *self._shape), np.float32)]
        for start in range(0, len(slots), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            of_block = slots[block], times[block], values[block]
            forecasts.append(self._advance_block(*of_block, forecast=forecast))
        self.arena.rows["last_time"][slots] = times
        self.arena.rows["steps"][slots] += 1
        self.arena.mark(slots)
        return np.concatenate(forecasts)

    def _advance_block(
        self, slots: IntArray, times: IntArray, values: FloatArray, *, forecast: bool
    ) -> FloatArray:
        count = len(slots)
        padding = BLOCK_ROWS - count
        padded = np.concatenate([slots, np.full(padding, self.arena.scratch)])
        values = np.concatenate([values, np.zeros((padding, values.shape[1]), np.float32)])
        times = np.concatenate([times, np.zeros(padding, np.int64)])
        rows = self.arena.rows[padded]
        inputs = Inputs(
            self._tensor(values[:, None]),
            self._tensor(self._artifact.clocks(times[:, None])),
            self._tensor(rows[CODES]),
        )
        unscaled = np.empty((0, *self._shape), np.float32)
        with torch.inference_mode():
            if forecast:
                made, after = self._network.step(inputs, self._gather(rows))
                unscaled = _numbers(made, count)
            else:
                after = self._network.advance(inputs, self._gather(rows))
        for name, tensor in flatten(after, self._names).items():
            rows[name] = tensor.numpy(force=True)
        self.arena.rows[slots] = rows[:count]
        return unscaled

    def _gather(self, rows: NDArray[np.void]) -> NetworkState:
        names = flatten(self._blank, self._names)
        return unflatten({n: self._tensor(rows[n]) for n in names}, self._blank, self._names)

    def _tensor(self, values: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)


def _numbers(forecast: Forecast, count: int) -> FloatArray:
    """Return the first `count` series of a block's forecast, unscaled: [count, horizon, Q]."""
    numbers: FloatArray = forecast.unscaled()[:count, 0].float().numpy(force=True)
    return numbers


@contextlib.contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """Idle series decay into denormals, which are slow; the setting is the thread's, so undo it."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _waves(slots: IntArray) -> list[IntArray]:
    """Return rows by occurrence: first those that are the first of their series, and so on."""
    live = np.flatnonzero(slots >= 0)
    if len(live) == 0:
        return []
    order = live[np.argsort(slots[live], kind="stable")]
    sorted_slots = slots[order]
    starts = np.flatnonzero(np.r_[True, sorted_slots[1:] != sorted_slots[:-1]])
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return [np.sort(order[rank == wave]) for wave in range(int(rank.max()) + 1)]
