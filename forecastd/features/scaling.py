"""Scales: where each channel is and how far it spreads.

The running scale is a causal mean and spread per channel that follow the series. Exponentially
weighted with a given half-life; the first observations count fully, so a fresh series has the plain
mean and variance of what it has shown. The spread is that of the fast tracker plus a tenth of a
slow one's, so a quiet stretch does not blow up small noise. The fixed scale is the same for all
series at all times; training finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from forecastd.features.spec import SLOW_SHARE, scale_rates


class ScaleState(NamedTuple):
    """seen [B, C] observations so far; mean and variance [B, C, 2], fast and slow. float64."""

    seen: Tensor
    mean: Tensor
    variance: Tensor


class Scale(NamedTuple):
    """Where a channel is and how far it spreads: location and spread, float64, spread > 0."""

    location: Tensor
    spread: Tensor


class RunningScale(nn.Module):
    """Tracks C channels of each series. half_life: steps, of the fast tracker."""

    def __init__(self, channels: int, half_life: float) -> None:
        super().__init__()
        self.channels = channels
        self.rates = scale_rates(half_life)

    def initial_state(self, series_count: int, device: torch.device) -> ScaleState:
        """Return the state of series that were never observed."""
        shape = (series_count, self.channels)
        return ScaleState(
            torch.zeros(shape, dtype=torch.float64, device=device),
            torch.zeros((*shape, 2), dtype=torch.float64, device=device),
            torch.zeros((*shape, 2), dtype=torch.float64, device=device),
        )

    def step(self, x: Tensor, state: ScaleState, observed: Tensor) -> tuple[Scale, ScaleState]:
        """Take one observation x [B, C]; return [B, C] and the next state, as `unroll` does.

        observed [B, C]: where x is finite; what is not is missing.
        """
        counts = state.seen + observed
        weights = self._weights(counts, observed)
        value = torch.where(observed, x, 0).to(torch.float64)[..., None]
        mean, variance = _moved(state, value, weights)
        return _scale(counts, mean, variance), ScaleState(counts, mean, variance)

    def of(self, state: ScaleState) -> Scale:
        """Return the scale [B, C] that the last step left."""
        return _scale(state.seen, state.mean, state.variance)

    def unroll(self, xs: Tensor, state: ScaleState) -> tuple[Scale, ScaleState]:
        """Take xs [B, T, C]; return the scale after each step, [B, T, C], and the last state.

        A missing value changes nothing. The weight of the n-th observation is max(rate, 1/n):
        Welford's update while the series is young, exponential forgetting from then on.
        """
        observed = torch.isfinite(xs)
        values = torch.where(observed, xs, 0).to(torch.float64)[..., None]
        counts = state.seen[:, None] + observed.cumsum(1)
        weights = self._weights(counts, observed)
        means, variances = [], []
        for t in range(xs.shape[1]):
            mean, variance = _moved(state, values[:, t], weights[:, t])
            state = state._replace(mean=mean, variance=variance)
            means.append(mean)
            variances.append(variance)
        scale = _scale(counts, torch.stack(means, 1), torch.stack(variances, 1))
        return scale, state._replace(seen=counts[:, -1])

    def _weights(self, counts: Tensor, observed: Tensor) -> Tensor:
        """Return how far each observation moves both trackers, [..., C, 2]; 0: it is missing."""
        rates = made_on(counts.device, self.rates)
        return torch.maximum(rates, 1 / counts.clamp(min=1)[..., None]) * observed[..., None]


class FixedScale(nn.Module):
    """One location and spread per channel, float32 [C], for all series; 0 and 1 at first."""

    location: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("location", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def initial_state(self, series_count: int, device: torch.device) -> ScaleState:
        """Return the state of series that were never observed: counts, and no moments."""
        seen = torch.zeros((series_count, self.channels), dtype=torch.float64, device=device)
        none = torch.zeros((series_count, self.channels, 0), dtype=torch.float64, device=device)
        return ScaleState(seen, none, none)

    def step(self, x: Tensor, state: ScaleState, observed: Tensor) -> tuple[Scale, ScaleState]:
        """Count one observation x [B, C]. observed [B, C]: where x is finite."""
        after = state._replace(seen=state.seen + observed)
        return self.of(after), after

    def of(self, state: ScaleState) -> Scale:
        """Return the scale [B, C]."""
        shape = state.seen.shape
        return Scale(self.location.double().expand(shape), self.spread.double().expand(shape))

    def unroll(self, xs: Tensor, state: ScaleState) -> tuple[Scale, ScaleState]:
        """Count the observations in xs [B, T, C]; the scale [B, T, C] is always the same."""
        seen = state.seen + torch.isfinite(xs).sum(1)
        location, spread = (t.double().expand(xs.shape) for t in (self.location, self.spread))
        return Scale(location, spread), state._replace(seen=seen)


def made_on(device: torch.device, numbers: Sequence[float]) -> Tensor:
    """Return numbers as float64 made on a device: a copy to it would end a graph of its work."""
    return torch.stack([torch.full((), n, dtype=torch.float64, device=device) for n in numbers])


def _moved(state: ScaleState, value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance after a value [B, C, 1] of weight [B, C, 2], by Welford's update."""
    difference = value - state.mean
    move = weight * difference
    return state.mean + move, (state.variance + move * difference) * (1 - weight)


def _scale(counts: Tensor, means: Tensor, variances: Tensor) -> Scale:
    location = means[..., 0]
    deviation = variances.sqrt()
    floor = location.abs() * 1e-6 + 1e-30
    spread = deviation[..., 0] + SLOW_SHARE * deviation[..., 1] + floor
    return Scale(location, torch.where(counts > 0, spread, 1.0))
