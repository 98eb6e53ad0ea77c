"""The shape of the features as data, and the constants that every backend computes them with."""

from __future__ import annotations

from dataclasses import dataclass

VALUE, CHANGE, OBSERVED = PARTS = "value", "change", "observed"
"""What a channel may give to the network: its scaled value, its change, whether it was observed."""
SCALINGS = (
    "running", "none", "zerocenter", "zscore", "rescale-symmetric", "rescale-zero-one",
)  # fmt: skip
"""How values are scaled: by a running scale that follows each series, or by numbers that training
finds and that stay: not at all, less the mean, that over the deviation, to -1...1, to 0...1."""
SLOW_FACTOR = 30.0
"""How many half-lives of the fast tracker of a running scale one of the slow tracker is."""
SLOW_SHARE = 0.1
"""How much of the slow tracker's deviation is added to the spread."""
LEAD_HALF_LIVES = 4
"""How many half-lives of rows before a cold start bring the running scale close to a warm one."""


@dataclass(frozen=True)
class FeatureSpec:
    """The shape of the features as data.

    channels: numeric columns, target first where the target is forecast. clocks: see
    calendar.CLOCKS. half_life: steps. lags: L, length of the ring. embedding: E numbers per
    category. vocabulary: codes per column. scaling: one of SCALINGS. parts: of PARTS, in that
    order, what each channel gives. frame: the shape of what the channels are the elements of, as
    stored, channels last, as (28, 28, 1); empty where they are a vector. min_length: the
    shortest sequence that the network can take. max_length: the longest; 0: of any length.
    """

    channels: int
    clocks: tuple[str, ...]
    half_life: float
    lags: int
    embedding: int
    vocabulary: tuple[int, ...]
    scaling: str = "running"
    parts: tuple[str, ...] = PARTS
    frame: tuple[int, ...] = ()
    min_length: int = 1
    max_length: int = 0

    @property
    def width(self) -> int:
        """F, the number of inputs of the first layer."""
        embedded = self.embedding * len(self.vocabulary)
        return len(self.parts) * self.channels + 2 * len(self.clocks) + embedded

    @property
    def lead(self) -> int:
        """Rows before a cold start that warm the features, where they can be read."""
        return max(self.lags, round(LEAD_HALF_LIVES * self.half_life))

    @property
    def sizes(self) -> tuple[int, ...]:
        """What enters the first layer: (F,), or a frame with its channels first."""
        return (self.frame[-1], *self.frame[:-1]) if self.frame else (self.width,)


def scale_rates(half_life: float) -> tuple[float, float]:
    """Return how much of a new observation the fast and the slow tracker take in."""
    return 1 - 0.5 ** (1 / half_life), 1 - 0.5 ** (1 / (half_life * SLOW_FACTOR))
