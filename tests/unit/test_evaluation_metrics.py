from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import model

from forecastd.evaluation.metrics import Scores
from forecastd.series import quantiles_of

SIGNATURE = dataclasses.replace(model().signature, quantiles=quantiles_of((50, 80)), horizon=4)
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def case(seed: int, count: int = 6) -> Arrays:
    """Forecasts [n, 4, 5], truth with holes, the scale and deviation of each row's series."""
    dice = np.random.default_rng(seed)
    forecast = np.sort(dice.normal(size=(count, 4, 5)), -1).astype(np.float32)
    truth = dice.normal(size=(count, 4)).astype(np.float32)
    truth[dice.random(truth.shape) < 0.3] = np.nan
    truth[0, 0] = 1.0
    return forecast, truth, dice.random(count) + 0.5, dice.random(count) + 0.5


def plainly(forecast: np.ndarray, truth: np.ndarray, scale: np.ndarray, deviation: np.ndarray):
    """The metrics from their definitions, a value at a time."""
    absolute, squared, scaled, standard, pinball, size = [], [], [], [], [], []
    inside: dict[int, list[bool]] = {50: [], 80: []}
    for row in range(len(truth)):
        for ahead in range(truth.shape[1]):
            value = float(truth[row, ahead])
            if math.isnan(value):
                continue
            quantiles = dict(
                zip(SIGNATURE.quantiles, map(float, forecast[row, ahead]), strict=True)
            )
            error = value - quantiles[0.5]
            absolute.append(abs(error))
            squared.append(error * error)
            scaled.append(abs(error) / scale[row])
            standard.append(error / deviation[row])
            losses = [max(q * (value - f), (q - 1) * (value - f)) for q, f in quantiles.items()]
            pinball.append(sum(losses) / len(losses))
            size.append(abs(value))
            inside[50].append(quantiles[0.25] <= value <= quantiles[0.75])
            inside[80].append(quantiles[0.1] <= value <= quantiles[0.9])
    return {
        "mae": np.mean(absolute),
        "rmse": math.sqrt(np.mean(squared)),
        "mase": np.mean(scaled),
        "mae_std": np.mean(np.abs(standard)),
        "mse_std": np.mean(np.square(standard)),
        "pinball": np.mean(pinball),
        "wql": 2 * np.sum(pinball) / np.sum(size),
        "coverage_50": np.mean(inside[50]),
        "coverage_80": np.mean(inside[80]),
    }


@given(seed=st.integers(0, 10_000))
def test_metrics_are_their_definitions(seed: int) -> None:
    arrays = case(seed)
    scores = Scores(SIGNATURE, SIGNATURE.quantiles)
    scores.add(*arrays)
    assert scores.summary() == pytest.approx(plainly(*arrays), rel=1e-5)
    assert scores.count == np.isfinite(arrays[1]).sum()


@given(seed=st.integers(0, 10_000), cut=st.integers(0, 6))
def test_parts_add_up_to_the_whole(seed: int, cut: int) -> None:
    arrays = case(seed)
    whole, parts = (Scores(SIGNATURE, SIGNATURE.quantiles) for _ in range(2))
    whole.add(*arrays)
    for piece in (slice(0, cut), slice(cut, None)):
        parts.add(*(array[piece] for array in arrays))
    assert parts.summary() == pytest.approx(whole.summary(), rel=1e-9)


def test_a_point_forecast_has_no_coverage() -> None:
    forecast, truth, scale, deviation = case(0)
    scores = Scores(SIGNATURE, ())
    scores.add(forecast[..., 2:3], truth, scale, deviation)
    expected = plainly(forecast, truth, scale, deviation)
    found = scores.summary()
    assert found["mae"] == pytest.approx(expected["mae"], rel=1e-6)
    assert found["pinball"] == pytest.approx(expected["mae"] / 2, rel=1e-6)
    assert not any(name.startswith("coverage") for name in found)


def test_nothing_scored_is_nan_and_no_error() -> None:
    scores = Scores(SIGNATURE, SIGNATURE.quantiles)
    scores.add(np.zeros((2, 4, 5)), np.full((2, 4), np.nan), np.ones(2), np.ones(2))
    assert scores.count == 0
    assert all(math.isnan(value) for value in scores.summary().values())
