"""Walks a network along lanes of the store: resets, warms, carries and unrolls their states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forecastd.data.lanes import Chunk
from forecastd.features.encoder import Inputs
from forecastd.network.model import (
    Forecast,
    ForecastNetwork,
    NetworkState,
    detach,
    flatten,
    unflatten,
)
from forecastd.network.spec import NetworkSpec
from forecastd.series import FloatArray, IntArray

Clocks = Callable[[IntArray], FloatArray]
"""Times [...] to clock columns [..., 2 * clocks]."""


STEPS_MAX = 512
CHUNK_NUMBERS_MAX = 4_000_000


def steps_at_once(spec: NetworkSpec, lanes: int) -> int:
    """Return how many steps to unroll and forecast at once so that memory stays bounded.

    One for a network whose output is only the last step: each origin then is a last step.
    """
    if any(layer.options.get("output") == "last" for layer in spec.layers):
        return 1
    per_step = spec.head.horizon * max(1, len(spec.head.quantiles)) + spec.head.lags
    return int(np.clip(CHUNK_NUMBERS_MAX // (lanes * per_step), 8, STEPS_MAX))


class Walker:
    """Carries the states of B lanes from chunk to chunk.

    codes: [S, columns] of every series of the store. state: of all lanes, None before the first
    chunk; it can be read and set to go on elsewhere.
    """

    def __init__(
        self, network: ForecastNetwork, clocks: Clocks, codes: NDArray[np.integer]
    ) -> None:
        self.network = network
        self.clocks = clocks
        self.codes = codes
        self.state: NetworkState | None = None

    def unroll(self, chunk: Chunk, at: IntArray | None = None) -> Forecast:
        """Advance all lanes by a chunk and forecast from the steps `at` (all if None).

        The state is kept without its gradient history: back-propagation ends at the chunk.
        """
        before = self._prepared(chunk)
        steps = None if at is None else torch.from_numpy(at).to(self.network.device)
        inputs = self._inputs(chunk.values, chunk.times, chunk.series)
        forecast, after = self.network.unroll(inputs, before, steps)
        self.state = detach(after)
        return forecast

    def future(self, chunk: Chunk, at: IntArray) -> Tensor:
        """Return the targets [B, T', horizon] of the steps `at`, NaN where unknown."""
        horizon = chunk.future.shape[1] - chunk.values.shape[1] + 1
        windows = torch.from_numpy(chunk.future).unfold(1, horizon, 1)
        return windows[:, torch.from_numpy(at)].to(self.network.device)

    def _inputs(self, values: FloatArray, times: IntArray, series: IntArray) -> Inputs:
        device = self.network.device
        codes = np.where(series[:, None] >= 0, self.codes[series], 0).astype(np.int64)
        return Inputs(
            torch.from_numpy(values).to(device),
            torch.from_numpy(self.clocks(times)).to(device),
            torch.from_numpy(codes).to(device),
        )

    def _prepared(self, chunk: Chunk) -> NetworkState:
        """Return the states before a chunk, fresh lanes reset and their features warmed."""
        fresh = chunk.fresh
        if self.state is None:
            self.state = self.network.initial_state(len(fresh))
        if not fresh.any():
            return self.state
        names = list(self.network.layers)
        lanes = torch.from_numpy(np.flatnonzero(fresh)).to(self.network.device)
        started = flatten(self._started(chunk, fresh), names)
        carried = flatten(self.state, names)
        mixed = {name: t.index_copy(0, lanes, started[name]) for name, t in carried.items()}
        return unflatten(mixed, self.state, names)

    def _started(self, chunk: Chunk, fresh: NDArray[np.bool_]) -> NetworkState:
        state = self.network.initial_state(int(fresh.sum()))
        longest = int(chunk.lead[fresh].max())
        if longest == 0:
            return state
        lead = slice(chunk.lead_values.shape[1] - longest, None)
        values, times = chunk.lead_values[fresh][:, lead], chunk.lead_times[fresh][:, lead]
        with torch.no_grad():
            return self.network.warm(self._inputs(values, times, chunk.series[fresh]), state)
