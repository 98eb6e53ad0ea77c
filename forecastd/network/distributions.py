"""Distributions of what is forecast: how likely a value is, and where the quantiles lie.

The incomplete beta function gives the distribution functions of Student's t and of the negative
binomial; both are inverted by iteration, all elements at once. Each element stops by itself, so
that it is the same to the last bit whatever it is computed with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FRACTION_STEPS_MAX = 20_000
FRACTION_TOLERANCE = 1e-11
NEWTON_STEPS_MAX = 30
NEWTON_TOLERANCE = 1e-6
"""Of the last step: what is left then is about its square."""
_TINY = 1e-300


def gaussian_loss(target: Tensor, location: Tensor, spread: Tensor) -> Tensor:
    """Return the negative log density of a normal distribution. spread > 0, its deviation."""
    away = (target - location) / spread
    return 0.5 * away**2 + spread.log() + 0.5 * math.log(2 * math.pi)


def student_loss(target: Tensor, location: Tensor, spread: Tensor, freedom: Tensor) -> Tensor:
    """Return the negative log density of Student's t, moved and stretched. spread, freedom > 0."""
    away = (target - location) / spread
    half = (freedom + 1) / 2
    norm = torch.lgamma(freedom / 2) - torch.lgamma(half) + 0.5 * (freedom * math.pi).log()
    return norm + half * torch.log1p(away**2 / freedom) + spread.log()


def count_loss(target: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Return the negative log probability of counts that are negative binomial.

    The variance is mean + dispersion * mean**2. Targets below zero or between whole numbers are
    taken by the same formula, which is smooth; below zero it is that of zero. mean, dispersion > 0.
    """
    size = 1 / dispersion
    counts = target.clamp(min=0)
    total = size + mean
    choices = torch.lgamma(counts + size) - torch.lgamma(size) - torch.lgamma(counts + 1)
    return -(choices + size * (size / total).log() + counts * (mean / total).log())


def normal_quantiles(quantiles: Tensor) -> Tensor:
    """Return the quantiles of the standard normal distribution, float64."""
    found: Tensor = torch.special.ndtri(quantiles.double())
    return found


def student_quantiles(freedom: Tensor, quantiles: Tensor) -> Tensor:
    """Return the quantiles of Student's t, float64.

    Newton's method on the distribution function, from the expansion of Cornish and Fisher. Right
    of the median the function is concave, so from the left the steps never pass the root.
    freedom [...] >= 1; quantiles broadcast with it, within 0 ... 1.
    """
    freedom, quantiles = _broadcast(freedom, quantiles)
    upper = torch.maximum(quantiles, 1 - quantiles)
    z = normal_quantiles(upper)
    found = z + (z**3 + z) / (4 * freedom)
    found = found + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    zero, busy = torch.zeros_like(freedom), torch.ones_like(freedom, dtype=torch.bool)
    for _ in range(NEWTON_STEPS_MAX):
        total = freedom + found**2
        tail = 0.5 * incomplete_beta(freedom / 2, zero + 0.5, freedom / total, found**2 / total)
        density = (-student_loss(found, zero, zero + 1, freedom)).exp()
        move = torch.where(busy, (1 - tail - upper) / density, 0)
        found = (found - move).clamp(min=0)
        busy &= move.abs() > NEWTON_TOLERANCE * (1 + found)
        if not bool(busy.any()):
            break
    return torch.where(quantiles < 0.5, -found, found)


def count_quantiles(mean: Tensor, dispersion: Tensor, quantiles: Tensor) -> Tensor:
    """Return the quantiles of the negative binomial: the least counts that suffice, float64.

    mean, dispersion [...] > 0; quantiles broadcast with them, within 0 ... 1.
    """
    mean, dispersion, quantiles = _broadcast(mean, dispersion, quantiles)
    size = 1 / dispersion
    deviation = (mean + dispersion * mean**2).sqrt()
    skew = (1 + 2 * dispersion * mean) / deviation
    z = normal_quantiles(quantiles)
    guess = (mean + deviation * (z + skew * (z**2 - 1) / 6)).clamp(min=0).floor()

    def enough(counts: Tensor) -> Tensor:
        found = incomplete_beta(
            size, counts.clamp(min=0) + 1, size / (size + mean), mean / (size + mean)
        )
        return (found >= quantiles) & (counts >= 0)

    width = 1 + (deviation / 16).floor()
    low, high = (guess - width).clamp(min=-1), guess + width
    while bool((short := ~enough(high)).any()):
        high = torch.where(short, high + width, high)
        width = 2 * width
    while bool((long := enough(low)).any()):
        low = torch.where(long, (low - width).clamp(min=-1), low)
        width = 2 * width
    while bool((high - low > 1).any()):
        middle = ((low + high) / 2).floor()
        good, wide = enough(middle), high - low > 1
        high = torch.where(good & wide, middle, high)
        low = torch.where(~good & wide, middle, low)
    return high


def _broadcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in one shape, float64."""
    shape = sum((tensor.double() for tensor in tensors), tensors[0].new_zeros(())).shape
    return tuple(tensor.double().expand(shape) for tensor in tensors)


def incomplete_beta(a: Tensor, b: Tensor, x: Tensor, rest: Tensor) -> Tensor:
    """Return the regularised incomplete beta function of x, float64; all of one shape.

    a, b > 0; x within 0 ... 1; rest is 1 - x, which near x = 1 is known better than x tells. The
    continued fraction by the method of Lentz (Thompson & Barnett 1986).
    """
    turned = x > (a + 1) / (a + b + 2)
    a, b = torch.where(turned, b, a), torch.where(turned, a, b)
    x, rest = torch.where(turned, rest, x), torch.where(turned, x, rest)
    logs = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    front = (logs + a * x.log() + b * rest.log()).exp() / a
    found = front * _fraction(a, b, x)
    return torch.where(turned, 1 - found, found)


def _fraction(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    above = torch.ones_like(x)
    below = 1 / _apart(1 - (a + b) * x / (a + 1))
    found, busy = below.clone(), torch.ones_like(x, dtype=torch.bool)
    for m in range(1, FRACTION_STEPS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = torch.ones_like(x)
        for part in (even, odd):
            below = 1 / _apart(1 + part * below)
            above = _apart(1 + part / above)
            change = change * above * below
        found = torch.where(busy, found * change, found)
        busy &= (change - 1).abs() > FRACTION_TOLERANCE
        if not bool(busy.any()):
            break
    return found


def _apart(number: Tensor) -> Tensor:
    """Keep a divisor away from zero."""
    return torch.where(number.abs() < _TINY, _TINY, number)
