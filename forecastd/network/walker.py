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
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.series import FloatArray, IntArray

Clocks = Callable[[IntArray], FloatArray]
"""Times [...] to clock columns [..., 2 * clocks]."""


STEPS_MAX = 512
CHUNK_NUMBERS_MAX = 4_000_000


def steps_at_once(spec: NetworkSpec, lanes: int) -> int:
    """Return how many steps to unroll and forecast at once so that memory stays bounded.

    One for a network that somewhere gives one value for all steps it is given: each origin then is
    a last step. What `needs_whole_series` is not for steps at all.
    """
    wiring = wiring_of(spec)
    passing = [shape for node in wiring.nodes for shape in node.entering.values() if shape.sizes]
    if not all(shape.time for shape in (*passing, wiring.output)):
        return 1
    numbers = max(1, len(spec.head.quantiles), spec.head.outputs)
    per_step = spec.head.horizon * numbers + spec.head.lags
    return int(np.clip(CHUNK_NUMBERS_MAX // (lanes * per_step), 8, STEPS_MAX))


def needs_whole_series(spec: NetworkSpec) -> bool:
    """Tell whether a network sees what follows a step: it takes series whole, see `whole_plan`."""
    return wiring_of(spec).needs_future() is not None


def _last_real(chunk: Chunk) -> IntArray:
    """Return the last step of each row that is not padding, 0 where there is none, [B]."""
    if chunk.filled is None:
        return np.maximum(chunk.length - 1, 0)
    real = np.isnan(chunk.filled)
    last: IntArray = real.shape[1] - 1 - np.argmax(real[:, ::-1], axis=1)
    return last


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
        device = self.network.device
        steps = None if at is None else torch.from_numpy(at).to(device)
        inputs = self._inputs(chunk.values, chunk.times, chunk.series)
        if chunk.filled is not None:
            inputs = inputs._replace(filled=torch.from_numpy(chunk.filled).to(device))
        masked = chunk.ends is not None and bool((chunk.length < chunk.values.shape[1]).any())
        lengths = torch.from_numpy(chunk.length).to(device) if masked else None
        forecast, after = self.network.unroll(inputs, before, steps, lengths)
        self.state = detach(after)
        return forecast

    def targets(self, chunk: Chunk, at: IntArray) -> Tensor:
        """Return what is to be said at the steps `at`, in units of the data, NaN where unknown.

        Of a forecast its `future`, [B, T', horizon]; else the target columns at the very steps,
        [B, T', R]. Where a network says one thing of a sequence, mini-batches of sequences give
        what holds at its last step, T' = 1, in the chunk that has this step.
        """
        if self._once(chunk):
            last = torch.from_numpy(_last_real(chunk))
            found = self._targets(chunk)[torch.arange(len(last)), last][:, None]
            found[torch.from_numpy(~self.counted(chunk, at)[:, 0])] = torch.nan
        else:
            found = self._targets(chunk)[:, torch.from_numpy(at)]
            if chunk.filled is not None:
                found = found.clone()
                found[torch.from_numpy(~self.counted(chunk, at))] = torch.nan
        return found.to(self.network.device)

    def counted(self, chunk: Chunk, at: IntArray) -> NDArray[np.bool_]:
        """Say which of the steps that `targets` gives are real, [B, T'], not padding or idle."""
        if self._once(chunk):
            assert chunk.ends is not None
            return chunk.ends[:, None]
        real: NDArray[np.bool_] = at < chunk.length[:, None]
        return real if chunk.filled is None else real & np.isnan(chunk.filled[:, at])

    def _once(self, chunk: Chunk) -> bool:
        """Whether one thing is said of each sequence, at its true end."""
        return chunk.ends is not None and not self.network.layers.wiring.output.time

    def _targets(self, chunk: Chunk) -> Tensor:
        """Return the targets of all steps, on the CPU."""
        if self.network.head.supervised:
            answers = chunk.values.shape[2] - self.network.spec.features.channels
            return torch.from_numpy(chunk.values[..., :answers])
        horizon = chunk.future.shape[1] - chunk.values.shape[1] + 1
        return torch.from_numpy(chunk.future).unfold(1, horizon, 1)

    def _inputs(self, values: FloatArray, times: IntArray, series: IntArray) -> Inputs:
        """Return what enters the network: all channels but the answers, which stand first."""
        device = self.network.device
        codes = np.where(series[:, None] >= 0, self.codes[series], 0).astype(np.int64)
        answers = values.shape[2] - self.network.spec.features.channels
        return Inputs(
            torch.from_numpy(values[..., answers:]).to(device),
            torch.from_numpy(self.clocks(times)).to(device),
            torch.from_numpy(codes).to(device),
        )

    def _prepared(self, chunk: Chunk) -> NetworkState:
        """Return the states before a chunk, fresh lanes reset and their features warmed."""
        fresh = chunk.fresh
        if chunk.ends is not None and fresh.all():  # a mini-batch, perhaps of another size
            return self._started(chunk, fresh)
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
