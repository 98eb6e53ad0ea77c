"""Heads: from the last layer's output to the scaled forecast of all horizons at once.

A head emits every horizon at every step (forking sequences, Wen et al. 2017), so one pass trains
every origin. Beside the recurrence the centre takes a linear map of the last L scaled values, the
autoregressive highway (Lai et al. 2018). To add a head: one class, one line in HEADS.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from forecastd.network.spec import HeadSpec


class Head(nn.Module):
    """Base of all heads: `forward` gives what the loss takes, `forecast` turns it into numbers.

    supervised: the head says what the target is now, from the inputs up to now, in its own units;
    all others forecast it, scaled as the encoder scales it.
    """

    supervised = False

    def forecast(self, raw: Tensor) -> Tensor:
        """Return [..., horizon, Q] for what `forward` returned, [..., horizon, P]."""
        return raw


class PointHead(Head):
    """One value per horizon: [..., horizon, 1]."""

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        self.centre = nn.Linear(width, spec.horizon)
        self.highway = nn.Linear(spec.lags, spec.horizon, bias=False) if spec.lags else None
        _damp(self.highway)

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H] and lags [..., L] scaled values, oldest first."""
        return _centre(self.centre, self.highway, y, lags)[..., None]


class QuantileHead(Head):
    """Quantiles that cannot cross: the median, and steps of softplus away from it.

    Returns [..., horizon, Q] in rising order of quantile.
    """

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        self.horizon = spec.horizon
        self.below = sum(q < 0.5 for q in spec.quantiles)
        self.above = sum(q > 0.5 for q in spec.quantiles)
        self.centre = nn.Linear(width, spec.horizon)
        self.steps = nn.Linear(width, spec.horizon * (self.below + self.above))
        self.highway = nn.Linear(spec.lags, spec.horizon, bias=False) if spec.lags else None
        _damp(self.highway)

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H] and lags [..., L] scaled values, oldest first."""
        median = _centre(self.centre, self.highway, y, lags)[..., None]
        steps = functional.softplus(self.steps(y))
        steps = steps.view(*steps.shape[:-1], self.horizon, self.below + self.above)
        down, up = steps[..., : self.below], steps[..., self.below :]
        lower = (median - down.cumsum(-1)).flip(-1)
        return torch.cat([lower, median, median + up.cumsum(-1)], -1)


HEADS: dict[str, Callable[[int, HeadSpec], Head]] = {
    "point": PointHead,
    "quantile": QuantileHead,
}


def _damp(highway: nn.Linear | None) -> None:
    """Start the highway at nothing, so that training begins from the recurrence alone."""
    if highway is not None:
        nn.init.zeros_(highway.weight)


def _centre(linear: nn.Linear, highway: nn.Linear | None, y: Tensor, lags: Tensor | None) -> Tensor:
    centre: Tensor = linear(y)
    if highway is not None and lags is not None:
        centre = centre + highway(lags)
    return centre
