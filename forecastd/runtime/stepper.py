"""The contract of everything that advances live series, whatever the backend."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from forecastd.runtime.arena import Arena
from forecastd.series import ForecastBatch, ObservationBatch, Signature


class StepResult(NamedTuple):
    """What became of a batch.

    forecasts: one row per used observation, in order of arrival.
    refused: (row in the batch, reason) of observations that were not used; reason is "late",
    "repeat" or "arena_full". The state of their series did not change.
    filled: steps inserted for missing stamps. resets: series restarted after too long a hole.
    """

    forecasts: ForecastBatch
    refused: list[tuple[int, str]]
    filled: int
    resets: int


class Stepper(Protocol):
    """Advances each series by its observations and forecasts after each of them.

    The result does not depend on how observations fall into batches, to the last bit, as long as
    those of one series come in the same order. Never blocks on anything but arithmetic.
    """

    signature: Signature
    arena: Arena
    digest: str
    """Identifies weights and layout: states of another digest have another meaning."""

    def step(self, batch: ObservationBatch) -> StepResult:
        """Use a batch of observations; the arena then holds their effect."""
        ...
