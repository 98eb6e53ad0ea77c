from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_steps import ONE_SIZE
from models import HOUR_US, START_US, model, stored
from networks import SPECS

from forecastd.artifact import Artifact
from forecastd.features.encoder import Inputs
from forecastd.runtime import checkpoint, device_rows
from forecastd.runtime.checkpoint import Checkpoint
from forecastd.runtime.stepper import StepResult
from forecastd.runtime.torch_stepper import BLOCK_ROWS, IN_ARENA, Placement, TorchStepper
from forecastd.series import Keys, ObservationBatch

SERIES_MAX = 5
MAX_GAP = 3
MODELS = {name: model(name, max_gap=MAX_GAP) for name in SPECS}

names = pytest.mark.parametrize("name", SPECS)
places = pytest.mark.parametrize("place", [IN_ARENA, ONE_SIZE], ids=["in arena", "resident"])


@pytest.fixture(scope="module", autouse=True)
def _few_rows_at_once() -> Iterator[None]:
    """Let resident rows grow, and cross in several chunks, in small tests too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_rows, "FIRST_ROWS", 2)
        patch.setattr(device_rows, "CHUNK_ROWS", 3)
        yield


@dataclass(frozen=True)
class Observation:
    key: str
    hour: int
    y: float
    x: float


MOVES = [-2, 0, 1, 1, 1, 1, 2, MAX_GAP + 1, MAX_GAP + 2, 9]
"""Steps of time: late, repeated, next, holes that are filled, holes that reset."""

seeds = st.integers(0, 2**32)


def arrivals(seed: int) -> list[Observation]:
    """Seven series, two more than fit, in an order that keeps each one's own."""
    dice = np.random.default_rng(seed)
    keys = dice.choice(list("abcdefg"), int(dice.integers(1, 40)), p=dice.dirichlet(np.ones(7)))
    hours = dict.fromkeys("abcdefg", 0)
    found = []
    for key in keys.tolist():
        hours[key] += int(dice.choice(MOVES))
        values = np.where(dice.random(2) < 0.2, np.nan, dice.normal(size=2) * 20)
        found.append(Observation(key, hours[key], *values.tolist()))
    return found


def batch(observations: list[Observation]) -> ObservationBatch:
    return ObservationBatch(
        Keys.of([o.key for o in observations]),
        np.array([START_US + o.hour * HOUR_US for o in observations], np.int64),
        np.array([[o.y, o.x] for o in observations], np.float32).reshape(-1, 2),
        tags=np.arange(len(observations), dtype=np.int32),
    )


def one_by_one(trained: Artifact, observations: list[Observation]) -> dict[str, Any]:
    return summary(TorchStepper(trained, SERIES_MAX), [[o] for o in observations])


def summary(stepper: TorchStepper, batches: list[list[Observation]]) -> dict[str, Any]:
    """Return everything a stepping leaves behind, in a form that can be compared by bits."""
    forecasts: dict[str, list[tuple[int, bytes]]] = {}
    refused, filled, resets = [], 0, 0
    start = 0
    for observations in batches:
        result = stepper.step(batch(observations))
        rows = zip(
            result.forecasts.keys,
            result.forecasts.origins.tolist(),
            result.forecasts.values,
            strict=True,
        )
        for key, origin, forecast in rows:
            forecasts.setdefault(key, []).append((origin, forecast.tobytes()))
        refused += [(start + row, reason) for row, reason in result.refused]
        filled, resets = filled + result.filled, resets + result.resets
        start += len(observations)
    kept = stepper.arena.view()
    rows = {key: row.tobytes() for key, row in zip(kept.keys, kept.rows, strict=True)}
    return {
        "forecasts": forecasts,
        "refused": refused,
        "counts": (filled, resets),
        "rows": rows,
        "keys": list(kept.keys),
    }


@names
@places
@settings(max_examples=10)
@given(seed=seeds, cuts=st.sets(st.integers(0, 40), max_size=6))
def test_batches_do_not_change_the_results_by_a_bit(
    name: str, place: Placement, seed: int, cuts: set[int]
) -> None:
    observations = arrivals(seed)
    expected = one_by_one(MODELS[name], observations)
    edges = [0, *sorted(cuts), max(41, len(observations))]
    batches = [observations[a:b] for a, b in itertools.pairwise(edges)]
    found = TorchStepper(MODELS[name], SERIES_MAX, placement=place)
    assert summary(found, batches) == expected


@names
def test_a_series_has_the_same_bits_in_any_place_of_any_block(name: str) -> None:
    dice = np.random.default_rng(0)
    steps, company = 6, 2 * BLOCK_ROWS + 3
    y = dice.normal(size=(steps, 2)).astype(np.float32)
    alone = TorchStepper(MODELS[name], 1)
    expected = [alone.step(batch([Observation("a", t, *y[t])])).forecasts.values for t in range(6)]
    for place in (0, 1, 31, BLOCK_ROWS - 1, BLOCK_ROWS, company - 1):
        stepper = TorchStepper(MODELS[name], company)
        for t in range(steps):
            observations = [
                Observation(f"s{i}", t, *dice.normal(size=2).tolist()) for i in range(company)
            ]
            observations[place] = Observation("a", t, *y[t])
            found = stepper.step(batch(observations)).forecasts
            assert found.keys[place] == "a"
            assert found.values[place].tobytes() == expected[t].tobytes()


@names
@pytest.mark.parametrize(
    ("place", "then"), [(IN_ARENA, IN_ARENA), (ONE_SIZE, IN_ARENA), (IN_ARENA, ONE_SIZE)]
)
@settings(max_examples=5)
@given(seed=seeds, cut=st.integers(0, 40))
def test_snapshot_and_restore_go_on_as_if_nothing_was(
    name: str, place: Placement, then: Placement, seed: int, cut: int
) -> None:
    observations = arrivals(seed)
    stepper = TorchStepper(MODELS[name], SERIES_MAX, placement=place)
    stepper.step(batch(observations[:cut]))
    snapshot = stepper.arena.snapshot()
    expected = summary(stepper, [observations[cut:]])
    other = TorchStepper(MODELS[name], SERIES_MAX, placement=then)
    other.step(batch([Observation("stranger", 1, 1.0, 1.0)]))
    other.arena.restore(snapshot)
    assert summary(other, [observations[cut:]]) == expected


@places
def test_a_checkpoint_on_disk_goes_on_too(place: Placement, tmp_path: Path) -> None:
    trained = MODELS["lstm_quantile"]
    dice = np.random.default_rng(0)
    observations = [
        Observation(key, t, *dice.normal(size=2).tolist()) for t in range(20) for key in "ab"
    ]
    stepper = TorchStepper(trained, SERIES_MAX, placement=place)
    stepper.step(batch(observations[:17]))
    path = tmp_path / "state"
    checkpoint.save(path, Checkpoint(stepper.digest, stepper.arena.view(), {}))
    expected = summary(stepper, [observations[17:]])
    other = TorchStepper(trained, SERIES_MAX, placement=place)
    restored = checkpoint.load(path, other.arena.layout)
    assert restored is not None
    other.arena.restore(restored.snapshot)
    assert summary(other, [observations[17:]]) == expected


@names
def test_stepping_is_unrolling_the_prepared_store(name: str, tmp_path: Path) -> None:
    trained = MODELS[name]
    dice = np.random.default_rng(1)
    hours = np.cumsum(dice.choice([1, 1, 1, 2, 4, 9], 80))  # holes that are filled, and resets
    y = dice.normal(20, 3, 80).cumsum()
    y[dice.random(80) < 0.1] = np.nan
    x = dice.normal(size=80)
    frame = pl.DataFrame(
        {
            "unique_id": ["b"] * 80,
            "ds": pl.Series(START_US + hours * HOUR_US).cast(pl.Datetime("us")),
            "y": pl.Series(y).fill_nan(None),
            "x": x,
        }
    )
    store = stored(tmp_path, frame, max_gap=MAX_GAP)
    assert len(store.segments) > 3
    stepper = TorchStepper(trained, 1)
    result = stepper.step(
        batch([Observation("b", int(h), y[i], x[i]) for i, h in enumerate(hours)])
    )
    assert (result.filled, result.resets) == (store.report.rows_filled, store.report.resets)
    unrolled = []
    with torch.no_grad():
        for _, first, end in store.segments.tolist():
            inputs = Inputs(
                torch.from_numpy(np.array(store.values[first:end]))[None],
                torch.from_numpy(trained.clocks(np.array(store.times[first:end])))[None],
                torch.tensor([[2]]),
            )
            forecast, _ = trained.network.unroll(inputs, trained.network.initial_state(1))
            unrolled.append(forecast.unscaled()[0].numpy())
    expected = np.concatenate(unrolled)[store.observed]
    np.testing.assert_array_equal(result.forecasts.origins, store.times[store.observed])
    np.testing.assert_allclose(result.forecasts.values, expected, rtol=1e-5, atol=1e-4)


def stepped(
    *observations: Observation, place: Placement = IN_ARENA
) -> tuple[StepResult, TorchStepper]:
    stepper = TorchStepper(MODELS["lstm_quantile"], SERIES_MAX, placement=place)
    return stepper.step(batch(list(observations))), stepper


def test_late_and_repeated_observations_are_refused() -> None:
    result, stepper = stepped(
        Observation("a", 5, 1.0, 0.0),
        Observation("a", 5, 2.0, 0.0),
        Observation("b", 1, 1.0, 0.0),
        Observation("a", 4, 3.0, 0.0),
        Observation("a", 6, 4.0, 0.0),
    )
    assert result.refused == [(1, "repeat"), (3, "late")]
    assert result.forecasts.keys == ["a", "b", "a"]
    assert result.forecasts.tags is not None
    assert result.forecasts.tags.tolist() == [0, 2, 4]
    assert stepper.arena.rows["steps"][:2].tolist() == [2, 1]


def test_a_full_arena_refuses_new_series_only() -> None:
    result, _ = stepped(*(Observation(key, 1, 1.0, 0.0) for key in "abcdefa"))
    assert result.refused == [(5, "arena_full"), (6, "repeat")]
    assert result.forecasts.keys == list("abcde")


@places
def test_a_hole_is_filled_up_to_the_limit_and_resets_beyond(place: Placement) -> None:
    filled, stepper = stepped(
        Observation("a", 0, 1.0, 0.0), Observation("a", MAX_GAP + 1, 2.0, 0.0), place=place
    )
    assert (filled.filled, filled.resets) == (MAX_GAP, 0)
    assert stepper.arena.rows["steps"][0] == MAX_GAP + 2
    reset, stepper = stepped(
        Observation("a", 0, 1.0, 0.0), Observation("a", MAX_GAP + 2, 2.0, 0.0), place=place
    )
    assert (reset.filled, reset.resets) == (0, 1)
    assert stepper.arena.rows["steps"][0] == 1
    fresh, _ = stepped(Observation("a", MAX_GAP + 2, 2.0, 0.0))
    assert reset.forecasts.values[1].tobytes() == fresh.forecasts.values[0].tobytes()


def test_an_empty_batch_is_fine() -> None:
    result, stepper = stepped()
    assert len(result.forecasts) == 0
    assert result.forecasts.values.shape == (0, 5, 3)
    assert len(stepper.arena) == 0


@places
def test_static_values_are_read_when_a_series_is_new(place: Placement) -> None:
    trained = model()
    times, values = np.array([START_US] * 2), np.ones((2, 2), np.float32)
    stepper = TorchStepper(trained, 2, placement=place)
    stepper.step(ObservationBatch(Keys.of("az"), times, values, {"place": ["n", None]}))
    assert stepper.arena.view().rows["codes"].tolist() == [[1], [0]]


def test_values_far_out_give_finite_forecasts() -> None:
    result, stepper = stepped(
        *(Observation("a", t, 3e38 * (-1) ** t, 1e-38) for t in range(10)),
        Observation("b", 0, float("inf"), float("-inf")),
    )
    assert np.isfinite(stepper.arena.rows["encoder.mean"]).all()
    assert np.isfinite(result.forecasts.values[-1]).all()
