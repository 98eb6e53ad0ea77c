"""Batches for steppers whose results are compared, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from models import HOUR_US, START_US

from forecastd.runtime.stepper import Stepper
from forecastd.runtime.torch_stepper import BLOCK_ROWS, Placement
from forecastd.series import Keys, ObservationBatch

ONE_SIZE = Placement(True, (BLOCK_ROWS,))
"""As on a GPU, but with waves of one size, so that bits can be compared."""

FEW_SIZES = Placement(True, (1, 4, 16, 64))
"""As on a GPU, but with waves that small tests fill."""


def some_batches(seed: int) -> Iterator[ObservationBatch]:
    """Yield batches of few and many series with holes, late ones and missing values."""
    dice = np.random.default_rng(seed)
    start = 0
    for rows in dice.integers(1, 90, 6).tolist():
        hours = start + np.sort(dice.integers(0, 5, rows))
        start += int(dice.integers(1, 8))
        values = (dice.normal(size=(rows, 2)) * 3 + 5).astype(np.float32)
        values[dice.random(values.shape) < 0.1] = np.nan
        keys = Keys.of(f"s{number}" for number in dice.integers(0, 70, rows))
        yield ObservationBatch(keys, START_US + HOUR_US * hours, values)


def same_steps(one: Stepper, other: Stepper, batches: Iterator[ObservationBatch]) -> None:
    """Assert that both tell the same of batches, of every or every second step, within 1e-5."""
    for number, batch in enumerate(batches):
        ours, theirs = one.step(batch, forecast=1 + number % 2), other.step(
            batch, forecast=1 + number % 2
        )  # fmt: skip
        assert ours[1:4] == theirs[1:4]
        assert list(ours.forecasts.keys) == list(theirs.forecasts.keys)
        np.testing.assert_allclose(
            ours.forecasts.values, theirs.forecasts.values, rtol=1e-5, atol=1e-5
        )
    slots = np.arange(len(one.arena))
    np.testing.assert_allclose(
        one.forecast(slots).values, other.forecast(slots).values, rtol=1e-5, atol=1e-5
    )
