"""Heads: from the last layer's output to what a network says.

A head that forecasts emits every horizon at every step (forking sequences, Wen et al. 2017), so
one pass trains every origin. Beside the recurrence its centre takes a linear map of the last L
scaled values, the autoregressive highway (Lai et al. 2018). A supervised head says at each step
what the target is now: numbers, or one of K classes. To add a head: one class, one line in HEADS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from forecastd.features.scaling import made_on
from forecastd.network.distributions import count_quantiles, normal_quantiles, student_quantiles
from forecastd.network.outputs import SPREAD_MIN
from forecastd.network.spec import HeadSpec
from forecastd.network.wiring import Wiring

FREEDOM_MIN = 2.0
"""The degrees of freedom of Student's t stay above this, so that it has a variance."""
DISPERSION_MIN = 1e-3
COUNT_SPREAD_MIN = 0.1
"""What a count is scaled by, at least: a series of zeros has no spread of its own."""


class Head(nn.Module):
    """Base of all heads: `forward` gives what the loss takes, `forecast` turns it into numbers.

    supervised: the head says what the target is now, from the inputs up to now, in its own units.
    in_units: so does a forecast of counts. All others forecast it scaled as the encoder scales it.
    asks_host: `forecast` goes on until all numbers are near enough, so the host waits for them.
    """

    supervised = False
    in_units = False
    asks_host = False

    def placed(self, raw: Tensor, location: Tensor, spread: Tensor) -> Tensor:
        """Return `raw` [..., horizon, P] with what it says in the units of the data, if it does.

        location, spread [...]: float64, where the series is and how far it spreads.
        """
        return raw

    def forecast(self, raw: Tensor) -> Tensor:
        """Return [..., horizon, Q] for what `forward` and `placed` returned, [..., horizon, P]."""
        return raw

    def fit(self, mean: NDArray[np.floating], deviation: NDArray[np.floating]) -> None:
        """Take mean and deviation [R] of the targets that train, before training starts."""


class PointHead(Head):
    """One value per horizon: [..., horizon, 1]. Without `linear`, the last layer's own numbers."""

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        self.centre = nn.Linear(width, spec.horizon) if spec.linear else None
        self.highway = _highway(spec)

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
        self.highway = _highway(spec)

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H] and lags [..., L] scaled values, oldest first."""
        median = _centre(self.centre, self.highway, y, lags)[..., None]
        steps = functional.softplus(self.steps(y))
        steps = steps.view(*steps.shape[:-1], self.horizon, self.below + self.above)
        down, up = steps[..., : self.below], steps[..., self.below :]
        lower = (median - down.cumsum(-1)).flip(-1)
        return torch.cat([lower, median, median + up.cumsum(-1)], -1)


class GaussianHead(Head):
    """A normal distribution per horizon: raw [..., horizon, 2], location and spread, both scaled.

    The forecast is its quantiles.
    """

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        self.centre = nn.Linear(width, spec.horizon)
        self.scale = nn.Linear(width, spec.horizon)
        self.highway = _highway(spec)
        self.quantiles = spec.quantiles

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H] and lags [..., L] scaled values, oldest first."""
        location = _centre(self.centre, self.highway, y, lags)
        return torch.stack([location, functional.softplus(self.scale(y)) + SPREAD_MIN], -1)

    def forecast(self, raw: Tensor) -> Tensor:
        """Return the quantiles [..., horizon, Q], scaled."""
        location, spread = raw.unbind(-1)
        away = normal_quantiles(_levels(self.quantiles, raw)).to(raw.dtype)
        return location[..., None] + spread[..., None] * away


class StudentHead(GaussianHead):
    """Student's t per horizon: raw [..., horizon, 3], location, spread and degrees of freedom."""

    asks_host = True

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__(width, spec)
        self.freedom = nn.Linear(width, spec.horizon)

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H] and lags [..., L] scaled values, oldest first."""
        freedom = functional.softplus(self.freedom(y)) + FREEDOM_MIN
        return torch.cat([super().forward(y, lags), freedom[..., None]], -1)

    def forecast(self, raw: Tensor) -> Tensor:
        """Return the quantiles [..., horizon, Q], scaled."""
        location, spread, freedom = raw.unbind(-1)
        away = student_quantiles(freedom[..., None], _levels(self.quantiles, raw)).to(raw.dtype)
        return location[..., None] + spread[..., None] * away


class CountHead(Head):
    """A negative binomial per horizon: raw [..., horizon, 2], mean and dispersion, of counts.

    Counts are not scaled: `placed` turns the scaled centre c of a series at m with the spread s
    into the mean s * softplus(c + m / s), which is positive, and close to m + s * c away from zero.
    """

    in_units = True
    asks_host = True

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        self.centre = nn.Linear(width, spec.horizon)
        self.dispersion = nn.Linear(width, spec.horizon)
        self.highway = _highway(spec)
        self.quantiles = spec.quantiles

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H] and lags [..., L] scaled values, oldest first."""
        centre = _centre(self.centre, self.highway, y, lags)
        return torch.stack([centre, functional.softplus(self.dispersion(y)) + DISPERSION_MIN], -1)

    def placed(self, raw: Tensor, location: Tensor, spread: Tensor) -> Tensor:
        """Return mean and dispersion of the counts."""
        centre, dispersion = raw.unbind(-1)
        scale = spread.clamp(min=COUNT_SPREAD_MIN)
        start = (location.clamp(min=0) / scale).to(raw.dtype)[..., None]
        mean = scale.to(raw.dtype)[..., None] * functional.softplus(centre + start)
        return torch.stack([mean.clamp(min=1e-6), dispersion], -1)

    def forecast(self, raw: Tensor) -> Tensor:
        """Return the quantiles [..., horizon, Q]: whole numbers."""
        mean, dispersion = raw[..., None].unbind(-2)
        return count_quantiles(mean, dispersion, _levels(self.quantiles, raw)).to(raw.dtype)


class ResponsesHead(Head):
    """R numbers, the targets of a regression: raw [..., 1, 3 R], the forecast [..., 1, R].

    raw: the numbers as the layers give them, in deviations of the training part, and then location
    and spread that bring them into the units of the data; a loss compares in deviations.
    """

    supervised = True
    location: Tensor
    spread: Tensor

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        self.responses = nn.Linear(width, spec.outputs) if spec.linear else None
        self.register_buffer("location", torch.zeros(spec.outputs))
        self.register_buffer("spread", torch.ones(spec.outputs))

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H]; lags are None."""
        found = y if self.responses is None else self.responses(y)
        parts = found, self.location.expand_as(found), self.spread.expand_as(found)
        return torch.cat(parts, -1)[..., None, :]

    def forecast(self, raw: Tensor) -> Tensor:
        """Return the responses [..., 1, R] in the units of the data."""
        found, location, spread = raw.chunk(3, -1)
        return found * spread + location

    def fit(self, mean: NDArray[np.floating], deviation: NDArray[np.floating]) -> None:
        """Take mean and deviation [R] of the targets that train; a constant one is not scaled."""
        spread = np.where(deviation > 0, deviation, 1.0)
        self.location.copy_(torch.from_numpy(mean))
        self.spread.copy_(torch.from_numpy(spread))


class ClassesHead(Head):
    """One of K classes: raw [..., 1, K] logarithms of the probabilities that `forecast` returns.

    Without `linear` the last layer gives K numbers: scores of any size, or, where it is a softmax,
    the probabilities themselves (`takes_probabilities`).
    """

    supervised = True

    def __init__(self, width: int, spec: HeadSpec) -> None:
        super().__init__()
        self.scores = nn.Linear(width, spec.outputs) if spec.linear else None
        self.takes_probabilities = False

    def forward(self, y: Tensor, lags: Tensor | None) -> Tensor:
        """Take outputs y [..., H]; lags are None."""
        found = y if self.scores is None else self.scores(y)
        if self.takes_probabilities:
            return found.clamp(min=torch.finfo(found.dtype).tiny).log()[..., None, :]
        return functional.log_softmax(found, -1)[..., None, :]

    def forecast(self, raw: Tensor) -> Tensor:
        """Return the probabilities [..., 1, K]."""
        return raw.exp()


HEADS: dict[str, Callable[[int, HeadSpec], Head]] = {
    "point": PointHead,
    "quantile": QuantileHead,
    "gaussian": GaussianHead,
    "student_t": StudentHead,
    "negative_binomial": CountHead,
    "responses": ResponsesHead,
    "classes": ClassesHead,
}


def head_of(wiring: Wiring, spec: HeadSpec) -> Head:
    """Return the head of a network whose layers are connected like that."""
    head = HEADS[spec.kind](wiring.output.width, spec)
    last = next((node.kind for node in wiring.nodes if node.name == wiring.last), "")
    if isinstance(head, ClassesHead):
        head.takes_probabilities = not spec.linear and last == "softmax"
    return head


def _highway(spec: HeadSpec) -> nn.Linear | None:
    """Return the highway, which starts at nothing: training begins from the recurrence alone."""
    if not spec.lags:
        return None
    highway = nn.Linear(spec.lags, spec.horizon, bias=False)
    nn.init.zeros_(highway.weight)
    return highway


def _centre(
    linear: nn.Linear | None, highway: nn.Linear | None, y: Tensor, lags: Tensor | None
) -> Tensor:
    centre: Tensor = y if linear is None else linear(y)
    if highway is not None and lags is not None:
        centre = centre + highway(lags)
    return centre


def _levels(quantiles: tuple[float, ...], like: Tensor) -> Tensor:
    return made_on(like.device, quantiles or (0.5,))
