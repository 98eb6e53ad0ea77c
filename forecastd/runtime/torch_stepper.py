"""The torch stepper: advances live series on any device, in waves of fixed sizes.

The matrix kernels of a library choose their order of summation by the shape of the batch. On the
CPU every wave has the same shape, padded with a scratch row, so the forecast of an observation does
not depend on which others arrived with it, to the last bit; a restart repeats itself exactly. On a
GPU states stay there, and a wave is as large as what arrived: forecasts agree to 1e-6.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from forecastd.artifact import Artifact
from forecastd.data.grid import missing_stamps
from forecastd.network.model import flatten
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.device_rows import ResidentRows, Rows, RowsInPlace
from forecastd.runtime.launching import Waves
from forecastd.runtime.stepper import CODES, StepResult, claim_rows, occurrences
from forecastd.runtime.waves import Mode, Observed, Shape
from forecastd.series import FloatArray, ForecastBatch, IntArray, ObservationBatch

BLOCK_ROWS = 64


class Placement(NamedTuple):
    """Where states live, in the arena or on the network's device, and the sizes of waves, rising.

    With one size alone the forecasts do not depend on the batches.
    """

    resident: bool
    sizes: tuple[int, ...]


IN_ARENA = Placement(False, (BLOCK_ROWS,))
ON_DEVICE = Placement(True, (1, 16, 64, 256, 1024, 4096, 16_384, 65_536))


class TorchStepper:
    """See runtime.stepper.Stepper. On the CPU torch is set to one thread: blocks are small.

    placement: None: states are in the arena on the CPU, and on a GPU there. tell: takes a remark
    about what is slower than it could be. On a GPU torch is set to full float32, without TF32.
    """

    def __init__(
        self,
        artifact: Artifact,
        series_max: int,
        device: str = "cpu",
        placement: Placement | None = None,
        tell: Callable[[str], None] = lambda remark: None,
    ) -> None:
        self.signature, self.digest = artifact.signature, artifact.digest
        self._artifact = artifact
        network = artifact.network.to(device).eval()
        on_cpu = torch.device(device).type == "cpu"
        if on_cpu:
            torch.set_num_threads(1)
        else:
            _compute_in_float32()
        chosen = placement or (IN_ARENA if on_cpu else ON_DEVICE)
        self.arena = _arena_of(artifact, series_max)
        self._rows: Rows = (
            ResidentRows(self.arena, network.device) if chosen.resident else RowsInPlace(self.arena)
        )
        features, head = artifact.spec.features, artifact.spec.head
        self._shape = Shape(
            features.channels,
            artifact.clocks(np.zeros(1, np.int64)).shape[-1],
            (head.horizon, head.outputs or max(1, len(head.quantiles))),
        )
        self.waves = Waves(network, self._rows, self._shape, chosen.sizes, tell)
        with _denormals_as_zero():
            self.waves.record_ahead(series_max)

    def step(self, batch: ObservationBatch, *, forecast: int = 1) -> StepResult:
        """Use a batch: the k-th observation of each series goes into the k-th wave."""
        with _denormals_as_zero():
            return self._step(batch, forecast=forecast)

    def forecast(self, slots: IntArray) -> ForecastBatch:
        """Return the forecasts of live series from their states as they are."""
        nothing = self.observed(slots, np.zeros(len(slots), np.int64))
        with _denormals_as_zero():
            values = self.waves.run(Mode.FORECAST, nothing)
        return ForecastBatch(self.arena.keys_at(slots), self.arena.rows["last_time"][slots], values)

    def prepare(self) -> None:
        """Do nothing: a wave has nothing to make ahead."""

    def observed(
        self, slots: IntArray, times: IntArray, values: FloatArray | None = None
    ) -> Observed:
        """Return what enters a wave for observations; None: all values are missing."""
        if values is None:
            values = np.full((len(slots), self._shape.channels), np.nan, np.float32)
        return Observed(slots, self._artifact.clocks(times), values)

    def _step(self, batch: ObservationBatch, *, forecast: int) -> StepResult:
        slots = claim_rows(self.arena, self._artifact.vocabulary, batch)
        refused = [(int(row), "arena_full") for row in np.flatnonzero(slots < 0)]
        values = np.empty((len(batch), *self._shape.numbers), np.float32)
        given = np.zeros(len(batch), np.bool_)
        filled = resets = 0
        for rows in occurrences(slots):
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
            for some, mode in ((silent, Mode.ADVANCE), (rows, Mode.STEP)):
                if len(some):
                    times = batch.times[some]
                    observed = self.observed(slots[some], times, batch.values[some])
                    values[some] = self._advance(observed, times, mode)
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
            self._advance(self.observed(slots[rows], times), times, Mode.ADVANCE)
        return int(holes.sum()), int(reset.sum())

    def _advance(self, observed: Observed, times: IntArray, mode: Mode) -> FloatArray:
        """Step series, each at most once, and return their forecasts [n, horizon, Q], if wanted."""
        values = self.waves.run(mode, observed)
        self.arena.rows["last_time"][observed.slots] = times
        self.arena.rows["steps"][observed.slots] += 1
        return values


def _arena_of(artifact: Artifact, series_max: int) -> Arena:
    """Return an arena whose rows hold what a network remembers of a series."""
    network = artifact.network
    flat = flatten(network.initial_state(1), list(network.layers))
    blank = {name: tensor.numpy(force=True) for name, tensor in flat.items()}
    fields = {name: (array.dtype, array.shape[1:]) for name, array in blank.items()}
    fields[CODES] = (np.dtype(np.int64), (len(artifact.vocabulary.sizes),))
    layout = row_layout(fields)
    initial = blank_row(layout)
    for name, array in blank.items():
        initial[name] = array
    return Arena(layout, series_max, initial)


def _compute_in_float32() -> None:
    """Switch TF32 off, for the process: it would round the factors of products to ten bits."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]


@contextlib.contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """Idle series decay into denormals, which are slow; the setting is the thread's, so undo it."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
