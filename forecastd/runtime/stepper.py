"""The contract of everything that advances live series, whatever the backend."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from forecastd.features.vocabulary import Vocabulary
from forecastd.runtime.arena import Arena
from forecastd.series import ForecastBatch, IntArray, ObservationBatch, Signature

CODES = "codes"
"""The field of a row that holds the category codes of a series."""


class StepResult(NamedTuple):
    """What became of a batch.

    forecasts: one row per used observation after which one was wanted, in order of arrival.
    refused: (row in the batch, reason) of observations that were not used; reason is "late",
    "repeat" or "arena_full". The state of their series did not change.
    filled: steps inserted for missing stamps. resets: series restarted after too long a hole.
    slots: [n] the row of each observation's series in the arena, -1 where there is none.
    """

    forecasts: ForecastBatch
    refused: list[tuple[int, str]]
    filled: int
    resets: int
    slots: IntArray


class Stepper(Protocol):
    """Advances each series by its observations and forecasts after each of them.

    The result does not depend on how observations fall into batches, as long as those of one series
    come in the same order: to the last bit on the CPU, to 1e-6 of the size of the numbers on a GPU.
    Never blocks on anything but arithmetic.
    """

    signature: Signature
    arena: Arena
    digest: str
    """Identifies weights and layout: states of another digest have another meaning."""

    def step(self, batch: ObservationBatch, *, forecast: int = 1) -> StepResult:
        """Use a batch of observations; the arena then holds their effect.

        forecast: after every how many steps of a series a forecast is wanted, by its count in the
        arena, where steps filled in count too; 0: never. What is not wanted is not computed.
        """
        ...

    def forecast(self, slots: IntArray) -> ForecastBatch:
        """Return the forecasts of live series from their states as they are; nothing advances.

        It is the one that `step` gave, or would have given, after the newest observation.
        """
        ...

    def prepare(self) -> None:
        """Do now, after the replies are out, what makes the next step of the same series short."""
        ...


def claim_rows(arena: Arena, vocabulary: Vocabulary, batch: ObservationBatch) -> IntArray:
    """Return the slot of each observation's series; write the category codes of new series."""
    slots, new = arena.claim(batch.keys)
    if len(new):
        static = {name: [column[row] for row in new] for name, column in batch.static.items()}
        codes = vocabulary.encode(batch.keys.take(new), static)
        arena.rows[CODES][slots[new]] = codes
    return slots


def occurrences(slots: IntArray) -> list[IntArray]:
    """Return rows by occurrence: the first of each slot, then the second of each, and so on.

    Rows whose slot is negative are left out.
    """
    live = np.flatnonzero(slots >= 0)
    if len(live) == 0:
        return []
    order = live[np.argsort(slots[live], kind="stable")]
    sorted_slots = slots[order]
    starts = np.flatnonzero(np.r_[True, sorted_slots[1:] != sorted_slots[:-1]])
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    by_rank = order[np.lexsort((order, rank))]
    return np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])
