"""Kinds of layers that slide filters along time or over frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from forecastd.network.kinds.contract import (
    IN,
    OUT,
    Facts,
    Kind,
    Shape,
    Whole,
    only_sequences,
)
from forecastd.network.kinds.linear import MapOptions
from forecastd.network.kinds.windows import CAUSAL, REACH_MAX, SAME, Window, require_padding

Mirrored = Literal["symmetric-include-edge", "symmetric-exclude-edge", "replicate"]
_FILLS: tuple[str, ...] = get_args(Mirrored)
Fill = float | Mirrored
"""What is added at the sides: a number, or the values there, mirrored or repeated."""


def _require_fill(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number or value in _FILLS:
        return value
    message = f"is neither a number nor one of {', '.join(_FILLS)}"
    raise ValueError(message)


class Conv1dOptions(MapOptions):
    """See layers.conv1d.Conv1dLayer."""

    size: int = Whole
    filters: int = Whole
    stride: int = Field(1, ge=1, le=REACH_MAX)
    dilation: int = Field(1, ge=1, le=REACH_MAX)
    padding: int | list[int] | str = 0
    padding_value: Fill = 0.0

    @field_validator("padding", mode="before")
    @classmethod
    def _padding(cls, value: object) -> object:
        return require_padding(value, (SAME, CAUSAL), (2,))

    @field_validator("padding_value", mode="before")
    @classmethod
    def _padding_value(cls, value: object) -> object:
        return _require_fill(value)

    @model_validator(mode="after")
    def _causal_takes_a_number(self) -> Conv1dOptions:
        if self.padding == CAUSAL and isinstance(self.padding_value, str):
            message = f'padding "causal" needs a number as padding_value, not {self.padding_value}'
            raise ValueError(message)
        return self

    @property
    def window(self) -> Window:
        """The filter's window."""
        return Window(self.size, self.stride, self.dilation, self.padding)

    @property
    def remembers(self) -> bool:
        """Whether the inputs before a step tell all that is added before the first."""
        return self.window.is_causal and not isinstance(self.padding_value, str)


def _conv1d(options: Conv1dOptions, inputs: Mapping[str, Shape]) -> Facts:
    x, window = inputs[IN], options.window
    weights = {"weight": (options.filters, x.sizes[0], options.size), "bias": (options.filters,)}
    if len(x.sizes) == 2:
        if options.padding == CAUSAL:
            message = f'slides over the frames of {x}, and padding "causal" is for sequences'
            raise ValueError(message)
        return Facts(
            {OUT: Shape((options.filters, after(window, x, 1)), x.time, x.folded)}, weights
        )
    if len(x.sizes) != 1:
        message = f"slides over one axis, and what enters is {x}; use conv2d"
        raise ValueError(message)
    only_sequences(x)
    return Facts(
        {OUT: Shape((options.filters,))},
        weights,
        {"past": (window.extent, x.sizes[0])} if options.remembers else {},
        None if options.remembers else why_not_stepped(window),
        window.min_length,
        window.stride,
        window.keeps_length,
    )


def why_not_stepped(window: Window) -> str:
    """Say why a window along time cannot follow a stream."""
    if window.stride > 1:
        return f"moves by {window.stride} steps at a time"
    return 'sees steps around each one; a conv1d with padding "causal" can be stepped'


def after(window: Window, x: Shape, axis: int) -> int:
    """Return how long an axis of a frame is after a window. Raises ValueError where it is gone."""
    length = window.length_after(x.sizes[axis])
    if length < 1:
        message = f"spans {window.extent} places, and an axis of what enters, {x}, is shorter"
        raise ValueError(message)
    return length


CONV1D = Kind(Conv1dOptions, _conv1d)


class Conv2dOptions(MapOptions):
    """See layers.conv2d.Conv2dLayer."""

    size: int | list[int]
    filters: int = Whole
    stride: int | list[int] = 1
    dilation: int | list[int] = 1
    padding: int | list[int] | str = 0
    padding_value: Fill = 0.0

    @field_validator("size", "stride", "dilation", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        pair = value if isinstance(value, list) and len(value) == 2 else [value]
        if all(type(n) is int and 1 <= n <= REACH_MAX for n in pair):
            return value
        message = f"is neither a whole number from 1 to {REACH_MAX} nor a list of two of them"
        raise ValueError(message)

    @field_validator("padding", mode="before")
    @classmethod
    def _padding(cls, value: object) -> object:
        return require_padding(value, (SAME,), (2, 4))

    @field_validator("padding_value", mode="before")
    @classmethod
    def _padding_value(cls, value: object) -> object:
        return _require_fill(value)

    @property
    def windows(self) -> tuple[Window, Window]:
        """The filter's window along the height and along the width."""
        rows, columns = self._padding_of_axes()
        (high, wide), (down, across), (tall, broad) = map(
            pair_of, (self.size, self.stride, self.dilation)
        )
        return Window(high, down, tall, rows), Window(wide, across, broad, columns)

    def _padding_of_axes(self) -> tuple[int | list[int] | str, int | list[int] | str]:
        if not isinstance(self.padding, list):
            return self.padding, self.padding
        if len(self.padding) == 2:
            return self.padding[0], self.padding[1]
        return self.padding[:2], self.padding[2:]


def pair_of(value: int | list[int]) -> tuple[int, int]:
    """Return one number for each of two axes."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _conv2d(options: Conv2dOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    if len(x.sizes) != 3:
        message = f"takes frames of channels, height and width, and what enters is {x}"
        raise ValueError(message)
    rows, columns = options.windows
    sizes = (options.filters, after(rows, x, 1), after(columns, x, 2))
    weights = {
        "weight": (options.filters, x.sizes[0], rows.size, columns.size),
        "bias": (options.filters,),
    }
    return Facts({OUT: Shape(sizes, x.time, x.folded)}, weights)


CONV2D = Kind(Conv2dOptions, _conv2d)
