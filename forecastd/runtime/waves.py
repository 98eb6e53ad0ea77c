"""Waves: a network steps rows in batches of fixed sizes.

Everything that a wave uses stays at its address: what enters, what leaves, the rows between. So on
a GPU all its work can be recorded once and launched as one; see graphs.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from forecastd.features.encoder import Inputs
from forecastd.network.model import Forecast, ForecastNetwork, NetworkState, flatten, unflatten
from forecastd.runtime.device_rows import Rows, fields_of
from forecastd.runtime.stepper import CODES
from forecastd.series import FloatArray, IntArray

PADDED_MAX = 1024
"""A wave of up to so many rows is taken however few there are: one launch costs more than rows."""

_INT, _FLOAT = 8, 4


class Mode(enum.Enum):
    """What a wave does: step and forecast, step alone, or forecast from states as they are."""

    STEP = enum.auto()
    ADVANCE = enum.auto()
    FORECAST = enum.auto()


class Shape(NamedTuple):
    """What enters and leaves for each row: C channels, K clock columns, numbers [horizon, Q]."""

    channels: int
    clocks: int
    numbers: tuple[int, int]


class Observed(NamedTuple):
    """Observations of series, each of another: slots [n], clocks [n, K], values [n, C].

    Where nothing advances, slots alone count.
    """

    slots: IntArray
    clocks: FloatArray
    values: FloatArray

    def part(self, some: slice) -> Observed:
        """Return some of them."""
        return Observed(self.slots[some], self.clocks[some], self.values[some])


class Wave:
    """A batch of `size` rows. entering: bytes, see `parts_of`; numbers [size, horizon, Q] leave."""

    def __init__(self, network: ForecastNetwork, rows: Rows, size: int, shape: Shape) -> None:
        self.size, self.rows = size, rows
        self._network, self._names = network, list(network.layers)
        device, width = rows.words.device, rows.words.shape[1]
        row_bytes = _INT + _FLOAT * (shape.clocks + shape.channels)
        self.entering = torch.zeros(size * row_bytes, dtype=torch.uint8, device=device)
        self.numbers = torch.zeros((size, *shape.numbers), device=device)
        self._before = torch.zeros((size, width), dtype=torch.int64, device=device)
        self._after = torch.zeros_like(self._before)
        fields = fields_of(self._before, rows.layout)
        self._places, clocks, values = parts_of(self.entering, size, shape)
        self._inputs = Inputs(values[:, None], clocks[:, None], fields[CODES])
        self._like, self._fields = network.initial_state(1), fields
        self._state = unflatten(fields, self._like, self._names)
        self._next = fields_of(self._after, rows.layout)

    def compute(self, mode: Mode, count: int) -> None:
        """Do what entered, for the first `count` rows; the others are not written back.

        No other device is asked or used, if `recordable` says so.
        """
        with torch.inference_mode():
            torch.index_select(self.rows.words, 0, self._places, out=self._before)
            after: NetworkState | None = None
            if mode is Mode.FORECAST:
                self._tell(self._network.forecast(self._as_step_leaves_it()))
            elif mode is Mode.ADVANCE:
                after = self._network.advance(self._inputs, self._state)
            else:
                forecast, after = self._network.step(self._inputs, self._state)
                self._tell(forecast)
            if after is not None:
                self._write(after, count)

    def _as_step_leaves_it(self) -> NetworkState:
        """Return states each in one piece: so a product takes them alike, to the last bit."""
        whole = {name: values.contiguous() for name, values in self._fields.items()}
        return unflatten(whole, self._like, self._names)

    def _tell(self, forecast: Forecast) -> None:
        self.numbers.copy_(forecast.unscaled()[:, 0])

    def _write(self, after: NetworkState, count: int) -> None:
        self._next[CODES].copy_(self._inputs.codes)
        for name, values in flatten(after, self._names).items():
            self._next[name].copy_(values)
        self.rows.words.index_copy_(0, self._places[:count], self._after[:count])


class Parts(NamedTuple):
    """What enters a wave: places [size] int64 of rows, clocks [size, K], values [size, C]."""

    places: Tensor
    clocks: Tensor
    values: Tensor


def parts_of(entering: Tensor, size: int, shape: Shape) -> Parts:
    """Return the parts of what enters a wave: views of its bytes."""
    ends = np.cumsum([0, _INT * size, _FLOAT * size * shape.clocks, _FLOAT * size * shape.channels])
    places, clocks, values = (
        entering[start:end].view(kind)
        for start, end, kind in zip(
            ends[:-1].tolist(), ends[1:].tolist(), (torch.int64, torch.float32, torch.float32),
            strict=True,
        )
    )  # fmt: skip
    return Parts(places, clocks.view(size, shape.clocks), values.view(size, shape.channels))


class Stage:
    """Where the host puts what enters a wave and finds what leaves it.

    For a GPU it is page-locked memory, which crosses without a copy; on the CPU the wave's own.
    """

    def __init__(self, wave: Wave, shape: Shape) -> None:
        self._wave = wave
        self._crosses = wave.numbers.device.type == "cuda"
        self._entering, self._numbers = wave.entering, wave.numbers
        if self._crosses:
            self._entering, self._numbers = (
                torch.empty_like(there, device="cpu", pin_memory=True)
                for there in (wave.entering, wave.numbers)
            )
        places, clocks, values = parts_of(self._entering, wave.size, shape)
        self._parts = Observed(places.numpy(), clocks.numpy(), values.numpy())

    def clear(self) -> None:
        """Put nothing but the scratch row in its place."""
        self.fill(self._parts.part(slice(0)))

    def fill(self, observed: Observed) -> None:
        """Put observations in their place, at most as many as the wave has rows.

        The rest is the scratch row with missing values.
        """
        count, parts = len(observed.slots), self._parts
        parts.slots[:count], parts.slots[count:] = observed.slots, self._wave.rows.scratch
        parts.clocks[:count], parts.clocks[count:] = observed.clocks, 0
        parts.values[:count], parts.values[count:] = observed.values, np.nan

    def send(self) -> None:
        """Start to bring what enters to the device."""
        if self._crosses:
            self._wave.entering.copy_(self._entering, non_blocking=True)

    def receive(self, count: int) -> FloatArray:
        """Wait for all that was started; return the numbers of the first `count` rows, a view."""
        if self._crosses:
            self._numbers[:count].copy_(self._wave.numbers[:count], non_blocking=True)
            torch.cuda.current_stream(self._wave.numbers.device).synchronize()
        found: FloatArray = self._numbers[:count].numpy()
        return found


def recordable(network: ForecastNetwork, mode: Mode) -> bool:
    """Tell whether the work of a mode never waits for the host, whatever the numbers are."""
    asked = any(network.layers.layer(name).asks_host for name in network.layers)
    return not asked and (mode is Mode.ADVANCE or not network.head.asks_host)


def pieces(count: int, sizes: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Yield which of `count` rows go together, and into a wave of which of the sizes, rising.

    A wave above PADDED_MAX is at least half full.
    """
    start = 0
    while start < count:
        rest = count - start
        size = next((size for size in sizes if size >= rest), sizes[-1])
        if size > max(PADDED_MAX, 2 * rest):
            size = max((smaller for smaller in sizes if smaller <= rest), default=size)
        yield slice(start, min(count, start + size)), size
        start += size
