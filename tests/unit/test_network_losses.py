from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forecastd.network.losses import MEDIAN, quantile_loss


def naive(
    forecast: np.ndarray, target: np.ndarray, quantiles: tuple[float, ...], weight: np.ndarray
) -> float:
    """Twice the pinball loss, one value at a time, as in the textbook."""
    total, count = 0.0, 0
    for step in range(target.shape[0]):
        for ahead in range(target.shape[1]):
            truth = target[step, ahead]
            if np.isnan(truth):
                continue
            count += weight[step] > 0
            losses = []
            for place, level in enumerate(quantiles):
                error = truth - forecast[step, ahead, place]
                losses.append(level * error if error >= 0 else (level - 1) * error)
            total += 2 * weight[step] * sum(losses) / len(losses)
    return total / max(1, count)


@given(seed=st.integers(0, 10_000), steps=st.integers(1, 6), horizon=st.integers(1, 5))
def test_the_loss_is_the_pinball_loss(seed: int, steps: int, horizon: int) -> None:
    dice = np.random.default_rng(seed)
    quantiles = (0.1, 0.5, 0.75)
    forecast = dice.normal(size=(steps, horizon, 3))
    target = dice.normal(size=(steps, horizon))
    target[dice.random(target.shape) < 0.3] = np.nan
    weight = np.where(dice.random(steps) < 0.3, 0, dice.random(steps))
    found = quantile_loss(*map(torch.from_numpy, (forecast, target)), torch.tensor(quantiles),
                          torch.from_numpy(weight))  # fmt: skip
    assert found.item() == pytest.approx(naive(forecast, target, quantiles, weight), rel=1e-6)


def test_of_the_median_it_is_the_absolute_error() -> None:
    forecast = torch.tensor([[[1.0], [5.0]]])
    target = torch.tensor([[4.0, 4.0]])
    loss = quantile_loss(forecast, target, torch.tensor(MEDIAN), torch.ones(1))
    assert loss.item() == pytest.approx((3 + 1) / 2)


def test_missing_targets_give_no_gradient_and_no_nan() -> None:
    forecast = torch.zeros(2, 2, 1, requires_grad=True)
    target = torch.tensor([[float("nan"), 1.0], [float("nan"), float("nan")]])
    loss = quantile_loss(forecast, target, torch.tensor(MEDIAN), torch.ones(2))
    loss.backward()
    assert loss.item() == 1.0
    assert forecast.grad is not None
    assert forecast.grad.flatten().tolist() == [0, -1, 0, 0]


def test_nothing_known_is_no_loss() -> None:
    target = torch.full((2, 3), float("nan"))
    loss = quantile_loss(torch.ones(2, 3, 1), target, torch.tensor(MEDIAN), torch.ones(2))
    assert loss.item() == 0
