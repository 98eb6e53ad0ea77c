"""Losses on scaled forecasts. Missing targets (NaN) carry none."""

from __future__ import annotations

import torch
from torch import Tensor


def quantile_loss(forecast: Tensor, target: Tensor, quantiles: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean pinball loss times two, so that the median's is absolute error.

    forecast [..., horizon, Q], target [..., horizon] with NaN where unknown, weight [...].
    """
    known = torch.isfinite(target)
    difference = torch.where(known, target, 0)[..., None] - forecast
    pinball = torch.maximum(quantiles * difference, (quantiles - 1) * difference).mean(-1)
    weighted = 2 * pinball * known * weight[..., None]
    count = (known * (weight > 0)[..., None]).sum().clamp(min=1)
    return weighted.sum() / count


MEDIAN = (0.5,)
"""The quantiles of a point forecast: its loss is then the absolute error."""
