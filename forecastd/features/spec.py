"""The shape of the features as data, and the constants that every backend computes them with."""

from __future__ import annotations

from dataclasses import dataclass

PER_CHANNEL = 3  # scaled value, its difference, observed or missing
SLOW_FACTOR = 30.0
"""How many half-lives of the fast tracker of a running scale one of the slow tracker is."""
SLOW_SHARE = 0.1
"""How much of the slow tracker's deviation is added to the spread."""


@dataclass(frozen=True)
class FeatureSpec:
    """The shape of the features as data.

    channels: numeric columns, target first. clocks: see calendar.CLOCKS. half_life: steps.
    lags: L, length of the ring. embedding: E numbers per category. vocabulary: codes per column.
    """

    channels: int
    clocks: tuple[str, ...]
    half_life: float
    lags: int
    embedding: int
    vocabulary: tuple[int, ...]

    @property
    def width(self) -> int:
        """F, the number of inputs of the first layer."""
        embedded = self.embedding * len(self.vocabulary)
        return PER_CHANNEL * self.channels + 2 * len(self.clocks) + embedded


def scale_rates(half_life: float) -> tuple[float, float]:
    """Return how much of a new observation the fast and the slow tracker take in."""
    return 1 - 0.5 ** (1 / half_life), 1 - 0.5 ** (1 / (half_life * SLOW_FACTOR))
