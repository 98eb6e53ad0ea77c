"""Where a window stands as it slides along time or along an axis of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAME, CAUSAL = "same", "causal"
Padding = int | list[int] | str
REACH_MAX = 1 << 16
"""No stride, dilation or padding is larger: a file could claim one, and memory follows it."""


@dataclass(frozen=True)
class Window:
    """`size` taps, `dilation` apart, moved by `stride` along an axis that is padded.

    padding: both sides, [left, right], "same" (as many outputs as strides fit into the axis, the
    odd one of the added steps to the right) or "causal" (all to the left).
    """

    size: int
    stride: int = 1
    dilation: int = 1
    padding: Padding = 0

    @property
    def extent(self) -> int:
        """Steps from the first tap to the last."""
        return (self.size - 1) * self.dilation + 1

    @property
    def is_causal(self) -> bool:
        """Whether output t depends on the inputs up to t alone, and each input gives an output."""
        return self.stride == 1 and self.sides(self.extent) == (self.extent - 1, 0)

    @property
    def keeps_length(self) -> bool:
        """Whether as many come out as go in."""
        return self.stride == 1 and sum(self.sides(self.extent)) == self.extent - 1

    @property
    def min_length(self) -> int:
        """The fewest inputs that give an output."""
        named = isinstance(self.padding, str)
        return 1 if named else max(1, self.extent - sum(self.sides(1)))

    def sides(self, length: int) -> tuple[int, int]:
        """Return what is added to the left and to the right of `length` steps."""
        if self.padding == CAUSAL:
            return self.extent - 1, 0
        if self.padding == SAME:
            covered = (-(-length // self.stride) - 1) * self.stride + self.extent
            added = max(0, covered - length)
            return added // 2, added - added // 2
        if isinstance(self.padding, list):
            return self.padding[0], self.padding[1]
        assert isinstance(self.padding, int)
        return self.padding, self.padding

    def length_after(self, length: int) -> int:
        """Return how many come out of `length` steps: floor((T + l + r - extent) / stride) + 1."""
        if length < self.min_length:
            return 0
        return (length + sum(self.sides(length)) - self.extent) // self.stride + 1


def require_padding(value: object, named: Sequence[str], sides: Sequence[int]) -> object:
    """Return what a padding may be. Raises ValueError with what it may be.

    named: words that are allowed; sides: how many numbers a list may have.
    """
    listed = value if isinstance(value, list) else [value]
    numbers = all(type(n) is int and 0 <= n <= REACH_MAX for n in listed)
    if numbers and isinstance(value, int):
        return value
    if (isinstance(value, str) and value in named) or (
        numbers and isinstance(value, list) and len(value) in sides
    ):
        return value
    lists = " or ".join(str(count) for count in sides)
    words = "".join(f', "{word}"' for word in named)
    message = f"is none of: a whole number from 0 to {REACH_MAX}, a list of {lists} of them{words}"
    raise ValueError(message)
