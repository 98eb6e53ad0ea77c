"""After which observations forecasts are made, and which wait for their time.

The head is only computed where a forecast is sent; every policy steps all observations alike.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from forecastd.connectors.codec_ndjson import Decoded, Requests
from forecastd.connectors.connections import Clock
from forecastd.connectors.contract import Position
from forecastd.daemon.policy import EmitSettings
from forecastd.runtime.stepper import Stepper, StepResult
from forecastd.series import ForecastBatch, IntArray, ObservationBatch, Signature

ROWS_MAX = 4096
"""How many forecasts of an interval are made and written at once."""

NUMBERS_MAX = 1 << 21
"""How many numbers the forecasts of one batch may have: 8 MB, and some 40 as text."""


class Stretch(NamedTuple):
    """Observations that nothing was asked between, and what is asked after them."""

    batch: ObservationBatch
    lines: Sequence[bytes]
    requests: Requests | None


class Emission:
    """Steps observations and forecasts as a policy says.

    An interval remembers which series changed since the last one. That belongs to the states and
    goes into the checkpoint with them, so that a crash holds no forecast back for good.
    """

    def __init__(self, policy: EmitSettings, series_max: int, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._every_s = policy.every
        self._next_at = clock() + (policy.every or 0.0)
        self._changed = np.zeros(0 if policy.every is None else series_max, np.bool_)
        self._any_changed = False

    def step(self, stepper: Stepper, batch: ObservationBatch) -> StepResult:
        """Step a batch; the forecasts are those to be sent now."""
        if self._policy.when == "step":
            return stepper.step(batch, forecast=self._policy.steps)
        result = stepper.step(batch, forecast=0)
        if self._policy.when == "last":
            return result._replace(forecasts=_newest(stepper, batch, result))
        if self._policy.when == "interval":
            self._note(result.slots[_used(result)])
        return result

    def seconds_left(self) -> float | None:
        """Return how long until forecasts are due; None if there is nothing to wait for."""
        return max(0.0, self._next_at - self._clock()) if self._any_changed else None

    def due(self, stepper: Stepper) -> Iterator[ForecastBatch]:
        """Make the forecasts whose time has come."""
        if self.seconds_left() == 0.0:
            yield from self.rest(stepper)

    def rest(self, stepper: Stepper) -> Iterator[ForecastBatch]:
        """Make the forecasts that still wait, whether or not their time has come."""
        slots = np.flatnonzero(self._changed)
        size = rows_at_once(ROWS_MAX, stepper.signature)
        for start in range(0, len(slots), size):
            yield stepper.forecast(slots[start : start + size])
        self._changed[:] = False
        self._any_changed = False

    def position(self) -> Position:
        """Return what `resume` goes on from: one bit for each slot whose series changed."""
        if not self._any_changed:
            return {}
        end = int(np.flatnonzero(self._changed)[-1]) + 1
        return {"changed": base64.b64encode(np.packbits(self._changed[:end]).tobytes()).decode()}

    def resume(self, position: Position) -> None:
        """Go on with the series that waited in another life; their slots are the same."""
        if self._policy.when != "interval" or "changed" not in position:
            return
        raw = np.frombuffer(base64.b64decode(position["changed"]), np.uint8)
        self._note(np.flatnonzero(np.unpackbits(raw)))

    def _note(self, slots: IntArray) -> None:
        """Note that series changed. Intervals follow each other from the start on, used or not."""
        if not self._any_changed and self._every_s is not None:
            passed = (self._clock() - self._next_at) // self._every_s + 1
            self._next_at += max(0.0, passed) * self._every_s
        self._changed[slots] = True
        self._any_changed = self._any_changed or len(slots) > 0


def rows_at_once(wanted: int, signature: Signature) -> int:
    """Return how many observations go together, fewer where the forecasts of each are long."""
    numbers = signature.horizon * max(1, len(signature.quantiles), len(signature.answers))
    return max(1, min(wanted, NUMBERS_MAX // numbers))


def stretches(decoded: Decoded) -> Iterator[Stretch]:
    """Cut observations where something is asked, so that an answer knows those before it only."""
    batch, lines, requests = decoded.batch, decoded.lines, decoded.requests
    if requests is None:
        yield Stretch(batch, lines, None)
        return
    ends, firsts = np.unique(requests.before, return_index=True)
    start = 0
    for end, part in zip(
        ends.tolist(), np.split(np.arange(len(requests)), firsts[1:]), strict=True
    ):
        yield Stretch(_part(batch, start, end), lines[start:end], requests.take(part))
        start = end
    if start < len(batch):
        yield Stretch(_part(batch, start, len(batch)), lines[start:], None)


def answer(stepper: Stepper, requests: Requests) -> tuple[ForecastBatch, IntArray]:
    """Return the forecasts asked for, in order, and the requests for series nobody knows."""
    slots = stepper.arena.recall(requests.keys)
    known = np.flatnonzero(slots >= 0)
    forecasts = stepper.forecast(slots[known])
    forecasts.tags = None if requests.tags is None else requests.tags[known]
    return forecasts, np.flatnonzero(slots < 0)


def _newest(stepper: Stepper, batch: ObservationBatch, result: StepResult) -> ForecastBatch:
    """Forecast after the newest used observation of each series of a batch, in their order."""
    used = _used(result)
    places = np.unique(result.slots[used][::-1], return_index=True)[1]
    rows = np.sort(used[::-1][places])
    forecasts = stepper.forecast(result.slots[rows])
    forecasts.tags = None if batch.tags is None else batch.tags[rows]
    return forecasts


def _used(result: StepResult) -> IntArray:
    """Return the rows of a batch that were used."""
    used = np.ones(len(result.slots), np.bool_)
    used[[row for row, _ in result.refused]] = False
    return np.flatnonzero(used)


def _part(batch: ObservationBatch, start: int, end: int) -> ObservationBatch:
    return ObservationBatch(
        batch.keys[start:end],
        batch.times[start:end],
        batch.values[start:end],
        {name: column[start:end] for name, column in batch.static.items()},
        None if batch.tags is None else batch.tags[start:end],
    )
