"""Kinds of layers that keep the largest or the mean of several steps or places."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from forecastd.network.kinds.contract import (
    IN,
    OUT,
    Facts,
    Kind,
    Options,
    Shape,
    only_sequences,
)
from forecastd.network.kinds.convolution import after, why_not_stepped
from forecastd.network.kinds.windows import REACH_MAX, SAME, Window, require_padding


class PoolingOptions(Options):
    """See layers.pooling."""

    size: int = Field(ge=1, le=REACH_MAX)
    stride: int = Field(1, ge=1, le=REACH_MAX)
    padding: int | list[int] | str = 0

    @field_validator("padding", mode="before")
    @classmethod
    def _padding(cls, value: object) -> object:
        return require_padding(value, (SAME,), (2,))

    @property
    def window(self) -> Window:
        """What is pooled."""
        return Window(self.size, self.stride, 1, self.padding)


def _pooling(options: PoolingOptions, inputs: Mapping[str, Shape]) -> Facts:
    x, window = inputs[IN], options.window
    if max(window.sides(window.size)) >= window.size:
        message = f"pools {window.size} and adds {options.padding}; add less than it pools"
        raise ValueError(message)
    if len(x.sizes) == 2:
        return Facts({OUT: Shape((x.sizes[0], after(window, x, 1)), x.time, x.folded)})
    if len(x.sizes) != 1:
        message = f"pools along one axis, and what enters is {x}; put a flatten layer before it"
        raise ValueError(message)
    only_sequences(x)
    return Facts(
        {OUT: x},
        needs_future=None if window.size == window.stride == 1 else why_not_stepped(window),
        min_length=window.min_length,
        stride=window.stride,
        keeps_length=window.keeps_length,
    )


MAX_POOLING = AVERAGE_POOLING = Kind(PoolingOptions, _pooling)


class GlobalPoolingOptions(Options):
    """See layers.global_pooling."""


def _global_pooling(options: GlobalPoolingOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    if len(x.sizes) == 2:
        return Facts({OUT: Shape(x.sizes[:1], x.time, x.folded)})
    if len(x.sizes) != 1:
        message = f"pools along one axis, and what enters is {x}; put a flatten layer before it"
        raise ValueError(message)
    only_sequences(x)
    return Facts({OUT: Shape(x.sizes, False)}, needs_future="pools over the whole sequence")


GLOBAL_MAX_POOLING = GLOBAL_AVERAGE_POOLING = Kind(GlobalPoolingOptions, _global_pooling)
