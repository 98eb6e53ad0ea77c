"""Closed loop for live series: any stepper, going further ahead than its model was trained to.

After an observation a copy of the state of its series goes on alone: each forecast is given to it
as if it had been observed, for as many steps as wanted. Many series go on together, and their own
states stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forecastd.artifact import Artifact
from forecastd.errors import ArtifactError, UserError
from forecastd.network.shapes import wiring_of
from forecastd.runtime.arena import ArenaSnapshot
from forecastd.runtime.stepper import Stepper, StepResult, occurrences
from forecastd.series import FloatArray, ForecastBatch, IntArray, ObservationBatch

ROWS_MAX = 1024
"""How many series go on together: what they remember meanwhile is kept twice."""


STEPS_MAX = 10_000


def require_closed(artifact: Artifact) -> None:
    """Raise ArtifactError where forecasts of a model cannot be fed back to it."""
    signature = artifact.signature
    if signature.supervised:
        message = f"a {signature.task} cannot run in a closed loop"
        raise ArtifactError(message, hint="only forecasts can be fed back")
    if signature.past:
        names = ", ".join(signature.past)
        message = f"a closed loop needs values of {names} that nobody knows yet"
        raise ArtifactError(message, hint="train a model without past columns")
    reason = wiring_of(artifact.spec).needs_future()
    if reason is not None:
        message = f"a closed loop goes step by step, and {reason}"
        raise ArtifactError(message, hint="train a network that can be stepped")


def require_bounded(steps: int) -> None:
    """Raise UserError where so many steps ahead would keep a stream waiting for good."""
    if steps > STEPS_MAX:
        message = f"a closed loop of {steps:,} steps is longer than {STEPS_MAX:,}"
        raise UserError(message, hint="forecast fewer steps ahead of each observation")


class ClosedLoop:
    """See runtime.stepper.Stepper. Forecasts are central ones [n, steps, 1].

    stepper: advances the series. ahead: another of the same model, for at least ROWS_MAX series,
    on which copies go on. The model must be one that `require_closed` lets pass.
    """

    def __init__(self, stepper: Stepper, ahead: Stepper, steps: int) -> None:
        self._stepper, self._ahead, self._steps = stepper, ahead, steps
        self._middle = stepper.signature.median
        self.signature = replace(stepper.signature, horizon=steps, quantiles=())
        self.digest = stepper.digest
        self.arena = stepper.arena

    def step(self, batch: ObservationBatch, *, forecast: int = 1) -> StepResult:
        """Use a batch: the k-th observation of each series goes into the k-th wave."""
        if not forecast:
            return self._stepper.step(batch, forecast=0)
        slots = np.full(len(batch), -1, np.int64)
        refused: list[tuple[int, str]] = []
        rows, values = [np.empty(0, np.int64)], [np.empty((0, self._steps, 1), np.float32)]
        filled = resets = 0
        _, series = np.unique(np.array(batch.keys.tolist(), object), return_inverse=True)
        for wave in occurrences(series):
            result = self._stepper.step(_taken(batch, wave), forecast=forecast)
            slots[wave] = result.slots
            refused += [(int(wave[row]), reason) for row, reason in result.refused]
            tags = result.forecasts.tags
            given = np.empty(0, np.int64) if tags is None else tags.astype(np.int64)
            rows.append(wave[given])
            values.append(self._go_on(result.forecasts, result.slots[given]))
            filled, resets = filled + result.filled, resets + result.resets
        found = np.concatenate(rows)
        order = np.argsort(found)
        found = found[order]
        tags = None if batch.tags is None else batch.tags[found]
        forecasts = ForecastBatch(
            batch.keys.take(found), batch.times[found], np.concatenate(values)[order], tags
        )
        return StepResult(forecasts, sorted(refused), filled, resets, slots)

    def forecast(self, slots: IntArray) -> ForecastBatch:
        """Return the forecasts of live series from their states as they are."""
        different, places = np.unique(slots, return_inverse=True)
        made = self._stepper.forecast(different)
        values = self._go_on(made, different)[places]
        return ForecastBatch(made.keys.take(places), made.origins[places], values)

    def prepare(self) -> None:
        """Let the stepper make ahead what it can."""
        self._stepper.prepare()

    def _go_on(self, made: ForecastBatch, slots: IntArray) -> FloatArray:
        """Return the forecasts [n, steps, 1] of series, all different, that begin with `made`."""
        values = np.empty((len(made), self._steps, 1), np.float32)
        values[:, 0, 0] = made.values[:, 0, self._middle]
        for start in range(0, len(made), ROWS_MAX):
            some = slice(start, start + ROWS_MAX)
            copies = self.arena.snapshot(slots[some])
            self._feed(copies, made.origins[some], values[some])
        return values

    def _feed(self, copies: ArenaSnapshot, origins: IntArray, values: FloatArray) -> None:
        """Write the forecasts after the first into values [n, steps, 1]."""
        self._ahead.arena.restore(copies)
        for step in range(1, self._steps):
            times = self.signature.frequency.advance(origins, step)
            fed = ObservationBatch(copies.keys, times, values[:, step - 1])
            values[:, step, 0] = self._ahead.step(fed).forecasts.values[:, 0, self._middle]


def _taken(batch: ObservationBatch, rows: IntArray) -> ObservationBatch:
    """Return some rows of a batch, tagged 0, 1, 2, ... so that their forecasts can be told."""
    static = {name: [texts[row] for row in rows] for name, texts in batch.static.items()}
    tags = np.arange(len(rows), dtype=np.int32)
    keys = batch.keys if len(rows) == len(batch) else batch.keys.take(rows)
    return ObservationBatch(keys, batch.times[rows], batch.values[rows], static, tags)
