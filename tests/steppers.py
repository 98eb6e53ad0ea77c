"""A small deterministic stepper, for tests that are about everything around the model."""

from __future__ import annotations

import numpy as np

from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.stepper import StepResult
from forecastd.series import (
    FloatArray,
    ForecastBatch,
    Frequency,
    IntArray,
    ObservationBatch,
    Signature,
)

SIGNATURE = Signature(
    id="unique_id",
    time="ds",
    target="y",
    past=("temp",),
    static=("region",),
    frequency=Frequency.parse("1h"),
    season=24,
    horizon=2,
    quantiles=(0.1, 0.5, 0.9),
)


class MeanStepper:
    """Forecasts the running mean of a series; its state is a count and a sum, kept as floats.

    The sum makes each forecast depend on every observation before it, so that one lost, repeated
    or reordered observation shows in all later forecasts of its series.
    """

    def __init__(
        self, series_max: int = 1000, digest: str = "mean", signature: Signature = SIGNATURE
    ) -> None:
        self.signature = signature
        self.digest = digest
        layout = row_layout(
            {
                "encoder.sum": (np.dtype(np.float64), ()),
                "network.count": (np.dtype(np.float64), ()),
            }
        )
        self.arena = Arena(layout, series_max, blank_row(layout))

    def step(self, batch: ObservationBatch, *, forecast: int = 1) -> StepResult:
        """Use observations one by one: slow and plain."""
        slots, _ = self.arena.claim(batch.keys)
        given, refused, means = [], [], []
        for index, slot in enumerate(slots.tolist()):
            row = self.arena.rows[slot] if slot >= 0 else None
            if row is None or batch.times[index] <= row["last_time"]:
                refused.append((index, _reason(row, batch.times[index])))
                continue
            row["encoder.sum"] += np.nan_to_num(batch.values[index, 0])
            row["network.count"] += 1
            row["last_time"] = batch.times[index]
            row["steps"] += 1
            self.arena.mark(slot)
            if forecast and row["steps"] % forecast == 0:
                given.append(index)
                means.append(row["encoder.sum"] / row["network.count"])
        forecasts = ForecastBatch(
            batch.keys.take(np.array(given, np.int64)),
            batch.times[given],
            self._around(np.array(means, np.float32)),
            None if batch.tags is None else batch.tags[given],
        )
        return StepResult(forecasts, refused, 0, 0, slots)

    def forecast(self, slots: IntArray) -> ForecastBatch:
        """Forecast from sums and counts as they are."""
        rows = self.arena.rows[slots]
        means = (rows["encoder.sum"] / rows["network.count"]).astype(np.float32)
        return ForecastBatch(self.arena.keys_at(slots), rows["last_time"], self._around(means))

    def prepare(self) -> None:
        """Do nothing."""

    def _around(self, means: FloatArray) -> FloatArray:
        quantiles = max(1, len(self.signature.quantiles))
        spread = np.arange(quantiles, dtype=np.float32) - quantiles // 2
        steps = np.arange(self.signature.horizon, dtype=np.float32)[None, :, None]
        return (means[:, None, None] + steps + spread).astype(np.float32)


def _reason(row: np.void | None, time: int) -> str:
    if row is None:
        return "arena_full"
    return "repeat" if time == row["last_time"] else "late"


class MeanModels:
    """Makes MeanSteppers; the model's "path" ends in its digest, so a reload can change it."""

    def load(self, path, settings, tell) -> MeanStepper:
        return MeanStepper(settings.series_max, path.name)

    def same_vocabulary(self, old: MeanStepper, new: MeanStepper) -> bool:
        return True
