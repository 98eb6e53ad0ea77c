"""Losses: how wrong a forecast is, for each step and horizon. Missing targets (NaN) carry none.

What is to be forecast is compared as the encoder scales it; responses are compared in deviations of
the training part; counts, and probabilities of classes, as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from forecastd.network.distributions import count_loss, gaussian_loss, student_loss
from forecastd.network.model import Forecast
from forecastd.network.outputs import require_loss
from forecastd.network.spec import HeadSpec

MEDIAN = (0.5,)
"""The quantiles of a point forecast: its loss is then the absolute error."""
LIKELY_REACH = 100.0
"""In spreads, where they are not weighed back: else one such step would be all that is learned."""
SQUARES_REACH = 1e15
"""Its square is a number."""


@dataclass(frozen=True)
class LossOptions:
    """delta: where the Huber loss turns from squares to a line. class_weights: by code; none: 1."""

    delta: float = 1.0
    class_weights: tuple[float, ...] = ()


class Errors(Protocol):
    """How wrong forecasts are."""

    @property
    def power(self) -> int:
        """With which power of the scale of what is compared the errors grow; 0: they have none.

        Who compares series of unlike scales weighs errors by the scale to that power.
        """
        ...

    def __call__(self, forecast: Forecast, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return errors [B, T', horizon] without NaN, and which are known, bool of that shape.

        target: in the units of the data, NaN where unknown: [B, T', horizon] where it is forecast;
        responses [B, T', R], class codes [B, T', 1], which give errors [B, T', 1].
        """
        ...


Measure = Callable[[Tensor, Tensor], Tensor]
"""Takes raw [B, T', horizon, P] and target [B, T', horizon] without NaN; returns errors."""


@dataclass(frozen=True)
class ForecastErrors:
    """Errors of forecasts of later values. See Errors.

    reach: scaled targets further away than this count as this far. A series that has hardly moved
    yet has next to no spread, and what it does then is any number of spreads away.
    """

    measure: Measure
    power: int
    reach: float

    def __call__(self, forecast: Forecast, target: Tensor) -> tuple[Tensor, Tensor]:
        """Compare scaled values."""
        location, spread = forecast.location[..., None], forecast.spread[..., None]
        scaled = ((target.double() - location) / spread).to(forecast.raw.dtype)
        known = torch.isfinite(scaled)
        near = torch.where(known, scaled, 0).clamp(-self.reach, self.reach)
        return self.measure(forecast.raw, near), known


@dataclass(frozen=True)
class ResponseErrors:
    """Errors of R responses: those of each, added up or averaged over what is known."""

    measure: Measure
    power: int
    mean: bool

    def __call__(self, forecast: Forecast, target: Tensor) -> tuple[Tensor, Tensor]:
        """Compare in deviations of the training part."""
        found, location, spread = forecast.raw[..., 0, :].chunk(3, -1)
        scaled = ((target.double() - location.detach()) / spread.detach()).to(found.dtype)
        known = torch.isfinite(scaled)
        errors = self.measure(found[..., None], torch.where(known, scaled, 0)) * known
        total, count = errors.sum(-1, keepdim=True), known.sum(-1, keepdim=True)
        return total / count.clamp(min=1) if self.mean else total, count > 0


@dataclass(frozen=True)
class ClassErrors:
    """Cross-entropy of classes by code.

    weights: of the classes, or none. They are not divided by their sum: an error counts as often as
    its class weighs, and the mean is over observations.
    """

    weights: tuple[float, ...] = ()
    power: int = 0

    def __call__(self, forecast: Forecast, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return minus the logarithm of the probability of the true class, weighed."""
        known = torch.isfinite(target)
        codes = torch.where(known, target, 0).long()
        errors = -forecast.raw[..., 0, :].gather(-1, codes)
        if self.weights:
            errors = errors * torch.tensor(self.weights).to(errors)[codes]
        return errors, known


def errors_of(head: HeadSpec, loss: str = "auto", options: LossOptions | None = None) -> Errors:
    """Return the loss of a head by its name. Raises ConfigError where they do not go together."""
    name = require_loss(head.kind, loss)
    chosen = options or LossOptions()
    if head.kind == "classes":
        return ClassErrors(chosen.class_weights)
    if name == "nll":
        reach = math.inf if head.kind == "negative_binomial" else LIKELY_REACH
        return ForecastErrors(LIKELIHOODS[head.kind], 0, reach)
    if name == "quantile" or (name == "mae" and head.kind == "point"):
        return ForecastErrors(partial(pinball_errors, head.quantiles or MEDIAN), 1, math.inf)
    measure, power = _measure(name, chosen.delta)
    if head.kind == "responses":
        return ResponseErrors(measure, power, name != "half-mse")
    return ForecastErrors(measure, power, SQUARES_REACH)


def pinball_errors(quantiles: tuple[float, ...], forecast: Tensor, target: Tensor) -> Tensor:
    """Return the mean pinball loss times two, so that the median's is the absolute error."""
    levels = torch.tensor(quantiles, device=forecast.device)
    difference = target[..., None] - forecast
    return 2 * torch.maximum(levels * difference, (levels - 1) * difference).mean(-1)


def _measure(name: str, delta: float) -> tuple[Measure, int]:
    """Return a loss of single numbers, and its power of their scale."""
    measures: dict[str, tuple[Measure, int]] = {
        "mae": (lambda raw, target: (raw[..., 0] - target).abs(), 1),
        "mse": (lambda raw, target: (raw[..., 0] - target) ** 2, 2),
        "half-mse": (lambda raw, target: 0.5 * (raw[..., 0] - target) ** 2, 2),
        "huber": (partial(_huber, delta), 1),
    }
    return measures[name]


def _huber(delta: float, raw: Tensor, target: Tensor) -> Tensor:
    return functional.huber_loss(raw[..., 0], target, reduction="none", delta=delta)


LIKELIHOODS: dict[str, Measure] = {
    "gaussian": lambda raw, target: gaussian_loss(target, *raw.unbind(-1)),
    "student_t": lambda raw, target: student_loss(target, *raw.unbind(-1)),
    "negative_binomial": lambda raw, target: count_loss(
        target.double(), *raw.double().unbind(-1)
    ).to(raw.dtype),
}
"""Minus the logarithm of the likelihood by head."""
