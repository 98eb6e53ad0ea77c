"""What a network takes, as the first table of a list of layers says it.

It is no layer: `network.expand` makes it part of the features, which scale and shape the values.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from forecastd.network.kinds.contract import NUMBER_MAX, Options

SEQUENCE_INPUT = "sequence_input"
"""The `type` of the table."""
USED_BY = {
    "mean": ("zerocenter", "zscore"),
    "deviation": ("zscore",),
    "min": ("rescale-symmetric", "rescale-zero-one"),
    "max": ("rescale-symmetric", "rescale-zero-one"),
}
"""The normalizations that each of the given numbers is for."""

Numbers = float | list[Any] | None


class SequenceInputOptions(Options):
    """The values that enter at each step, and the numbers they are scaled by once and for all."""

    size: int | list[int] = Field(
        description="numbers a step, or the shape of a frame with its channels last, [28, 28, 1]"
    )
    normalization: Literal[
        "none", "zerocenter", "zscore", "rescale-symmetric", "rescale-zero-one"
    ] = Field(
        "none",
        description="less the mean; that over the deviation; the range to -1...1 or 0...1",
    )
    dimension: Literal["auto", "channel", "element", "all"] = Field(
        "auto", description="what has one scale; auto: that of the given numbers, else a channel"
    )
    mean: Numbers = Field(None, description="the mean; not set: that of the training part")
    deviation: Numbers = Field(None, description="the deviation; not set: by N - 1 of that part")
    min: Numbers = Field(None, description="the smallest value; not set: that of the training part")
    max: Numbers = Field(None, description="the largest value; not set: that of the training part")
    min_length: int = Field(1, ge=1, le=NUMBER_MAX, description="shorter sequences are an error")
    length: int | None = Field(
        None, ge=1, le=NUMBER_MAX, description="sequences of other lengths are an error"
    )

    @property
    def frame(self) -> tuple[int, ...]:
        """The shape of a frame, channels last; empty for a vector."""
        return tuple(self.size) if isinstance(self.size, list) else ()

    @property
    def channels(self) -> int:
        """How many numbers enter at each step."""
        return math.prod(self.frame) if isinstance(self.size, list) else self.size

    def given(self) -> dict[str, NDArray[np.float64]]:
        """Return the numbers that need not be found, by name, [channels] each."""
        named = {name: getattr(self, name) for name in USED_BY}
        return {n: self._over_elements(n, x) for n, x in named.items() if x is not None}

    def _over_elements(self, name: str, value: Any) -> NDArray[np.float64]:
        """Return a number, one for each channel or one for each element as [channels]."""
        try:
            numbers = np.array(value, np.float64)
        except (TypeError, ValueError):
            numbers = np.array(np.nan)
        full = self.frame or (self.channels,)
        single = numbers.squeeze()
        if not np.isfinite(numbers).all():
            message = f"{name} is not made of finite numbers"
            raise ValueError(message)
        if single.ndim == 0 or single.shape == (full[-1],):
            return np.broadcast_to(single, full).reshape(-1).copy()
        if single.shape == tuple(size for size in full if size > 1):
            return single.reshape(-1)
        message = f"{name} is neither one number, one for each channel nor one for each element"
        raise ValueError(message)

    @field_validator("size")
    @classmethod
    def _positive(cls, size: int | list[int]) -> int | list[int]:
        sizes = size if isinstance(size, list) else [size]
        shapes = len(sizes) in {2, 3, 4} or not isinstance(size, list)
        if not shapes or not all(1 <= one <= NUMBER_MAX for one in sizes):
            message = "write the numbers a step, or [H, C], [H, W, C] or [H, W, D, C]"
            raise ValueError(message)
        return size

    @model_validator(mode="after")
    def _numbers_fit(self) -> SequenceInputOptions:
        if self.length is not None and self.length < self.min_length:
            message = f"length is {self.length} and min_length {self.min_length}"
            raise ValueError(message)
        numbers = self.given()
        for name in numbers:
            if self.normalization not in USED_BY[name]:
                message = f"normalization {self.normalization!r} has no use for {name}"
                raise ValueError(message)
        if "deviation" in numbers and not (numbers["deviation"] > 0).all():
            message = "deviation is not greater than 0 everywhere"
            raise ValueError(message)
        if {"min", "max"} <= numbers.keys() and not (numbers["max"] > numbers["min"]).all():
            message = "max is not greater than min everywhere"
            raise ValueError(message)
        return self
