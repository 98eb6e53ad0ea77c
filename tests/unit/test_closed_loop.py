"""Live series that go further ahead than their model was trained to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_steps import ONE_SIZE
from models import HOUR_US, START_US, alone, example, model, stored, waves

from forecastd import artifact
from forecastd.artifact import Example
from forecastd.daemon.build import ArtifactModels, carry_states
from forecastd.errors import ArtifactError, UserError
from forecastd.runtime.closed_loop import ROWS_MAX, STEPS_MAX, ClosedLoop
from forecastd.runtime.kernel_stepper import KernelStepper
from forecastd.runtime.opening import Stepping, open_model
from forecastd.runtime.stepper import Stepper
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.scoring.closed_loop import predict_closed
from forecastd.series import Keys, ObservationBatch

STEPS = 5
MAKERS = [KernelStepper, TorchStepper, partial(TorchStepper, placement=ONE_SIZE)]
steppers = pytest.mark.parametrize("make", MAKERS)


def closed(make: type[Stepper], series_max: int = 9, steps: int = STEPS) -> ClosedLoop:
    trained = alone()
    return ClosedLoop(make(trained, series_max), make(trained, ROWS_MAX), steps)


def batch(rows: list[tuple[str, int, float]]) -> ObservationBatch:
    keys, hours, values = zip(*rows, strict=True)
    times = START_US + np.array(hours, np.int64) * HOUR_US
    tags = np.arange(100, 100 + len(rows), dtype=np.int32)
    return ObservationBatch(Keys.of(keys), times, np.array(values, np.float32)[:, None], {}, tags)


@steppers
@pytest.mark.shows("S40")
@pytest.mark.trap(25)
def test_the_daemon_goes_on_as_batch_scoring_does(make: type[Stepper], tmp_path: Path) -> None:
    frame = waves({"a": 40, "b": 7, "c": 12}).drop("x")
    store = stored(tmp_path, frame, max_gap=3, past=[])
    result = predict_closed(alone(), store, tmp_path / "out.parquet", STEPS)
    wanted = pl.read_parquet(result.path).sort("unique_id", "h")["yhat"].to_numpy()
    stepper = closed(make)
    keys = np.repeat(store.keys.tolist(), np.diff(store.offsets)).tolist()
    history = ObservationBatch(Keys.of(keys), np.array(store.times), np.array(store.values))
    stepper.step(history, forecast=0)
    found = stepper.forecast(np.arange(3))
    np.testing.assert_allclose(found.values.reshape(-1), wanted, rtol=1e-4, atol=1e-4)


@steppers
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_forecasts_do_not_depend_on_how_observations_fall_into_batches(
    make: type[Stepper], seed: int
) -> None:
    dice = np.random.default_rng(seed)
    hours = dict.fromkeys("abc", 0)
    rows = []
    for key in dice.choice(list("abc"), 12).tolist():
        hours[key] += int(dice.choice([-1, 0, 1, 1, 2, 9]))
        rows.append((key, hours[key], float(dice.normal(20, 5))))
    whole, single = closed(make), closed(make)
    together = whole.step(batch(rows), forecast=2)
    forecasts, refused = [], []
    for place, row in enumerate(rows):
        one = single.step(batch([row]), forecast=2)
        forecasts += [(place, one.forecasts.values[0].tobytes())] if len(one.forecasts) else []
        refused += [(place, reason) for _, reason in one.refused]
    assert together.forecasts.tags is not None
    places = (together.forecasts.tags - 100).tolist()
    values = [value.tobytes() for value in together.forecasts.values]
    assert list(zip(places, values, strict=True)) == forecasts
    assert together.refused == refused
    assert [together.forecasts.keys[n] for n in range(len(places))] == [rows[n][0] for n in places]
    np.testing.assert_array_equal(whole.arena.view().rows, single.arena.view().rows)


@steppers
def test_states_stay_and_the_first_step_is_the_open_loop_s(make: type[Stepper]) -> None:
    trained, looped = alone(), closed(make)
    plain = make(trained, 9)
    rows = [(key, hour, 20.0 + hour) for hour in range(6) for key in "ab"]
    opened, went = plain.step(batch(rows)).forecasts, looped.step(batch(rows)).forecasts
    middle = trained.signature.median
    np.testing.assert_array_equal(went.values[:, 0, 0], opened.values[:, 0, middle])
    np.testing.assert_array_equal(looped.arena.view().rows, plain.arena.view().rows)
    assert went.values.shape == (12, STEPS, 1)


def test_more_series_than_go_on_together_and_a_series_asked_for_twice() -> None:
    trained = alone()
    few = ClosedLoop(KernelStepper(trained, 3000), KernelStepper(trained, ROWS_MAX), 2)
    few.step(batch([(f"s{n}", 0, float(n)) for n in range(ROWS_MAX + 5)]), forecast=0)
    slots = np.r_[np.arange(ROWS_MAX + 5)[::-1], 7, 7]
    found = few.forecast(slots)
    assert found.keys[-1] == "s7"
    alone_7 = few.forecast(np.array([7])).values[0]
    for row in (-1, -2, len(slots) - 3 - 7):
        np.testing.assert_array_equal(found.values[row], alone_7)


def test_a_model_is_opened_for_a_closed_loop_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    artifact.save(path, model(), example())
    with pytest.raises(ArtifactError, match="needs values of x"):
        open_model(path, "cpu", 9, print, Stepping(closed_loop=STEPS))


def test_a_loop_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    row = Example("a", START_US + HOUR_US * np.arange(5), np.ones((5, 1), np.float32))
    artifact.save(path, alone(), row)
    assert open_model(path, "cpu", 9, print, Stepping(closed_loop=STEPS_MAX)).stepper
    with pytest.raises(UserError, match="longer than 10,000"):
        open_model(path, "cpu", 9, print, Stepping(closed_loop=STEPS_MAX + 1))


def test_a_reload_into_a_closed_loop_keeps_the_states(tmp_path: Path) -> None:
    plain, looped = KernelStepper(alone(), 9), closed(KernelStepper)
    plain.step(batch([("a", 0, 20.0), ("b", 0, 30.0)]))
    told = carry_states(plain, looped, ArtifactModels(), tmp_path, evict=False)
    assert told == "kept"
    np.testing.assert_array_equal(looped.arena.view().rows, plain.arena.view().rows)
