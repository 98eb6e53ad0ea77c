from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from models import HOUR_US, KEYS, alone, model, stored, waves
from networks import inputs

from forecastd.data.store import Store
from forecastd.errors import ArtifactError, DataError
from forecastd.features.encoder import Inputs
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.scoring.closed_loop import closed_loop, predict_closed, require_closed
from forecastd.scoring.predict import predict
from forecastd.series import Keys, ObservationBatch

STEPS = 5


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Series a, b, c of unlike lengths; c goes on after a hole that resets."""
    frame = waves({"a": 40, "b": 7, "c": 12}).vstack(waves({"c": 5}, seed=1, first_hour=40))
    return stored(tmp_path, frame.drop("x"), max_gap=3, past=[])


@pytest.mark.shows("S40", "S88", "S39")
@pytest.mark.trap(25)
@pytest.mark.parametrize("name", ["lstm_quantile", "point_without_lags", "gaussian"])
def test_a_closed_loop_is_the_daemon_fed_with_its_own_forecasts(
    name: str, store: Store, tmp_path: Path
) -> None:
    trained = alone(name)
    result = predict_closed(trained, store, tmp_path / "out.parquet", STEPS)
    frame = pl.read_parquet(result.path).sort("unique_id", "h")
    assert frame.columns == ["unique_id", "ds", "cutoff", "h", "yhat"]
    assert (result.forecasts, result.rows) == (3, 3 * STEPS)
    stepper = TorchStepper(trained, 9)
    rows = np.asarray(store.observed)
    keys = np.repeat(store.keys.tolist(), np.diff(store.offsets))[rows].tolist()
    history = ObservationBatch(Keys.of(keys), store.times[rows], np.array(store.values[rows]))
    made = stepper.step(history).forecasts
    for key in KEYS:
        place = max(n for n, other in enumerate(made.keys) if other == key)
        time, said = (
            int(made.origins[place]),
            float(made.values[place, 0, trained.signature.median]),
        )
        found = frame.filter(pl.col("unique_id") == key)
        assert found["h"].to_list() == list(range(1, STEPS + 1))
        assert found["cutoff"].cast(pl.Int64).unique().to_list() == [time]
        for step in range(STEPS):
            time += HOUR_US
            assert found["ds"].cast(pl.Int64)[step] == time
            assert found["yhat"][step] == pytest.approx(said, rel=1e-4, abs=1e-4)
            fed = ObservationBatch(Keys.of([key]), np.array([time]), np.array([[said]], np.float32))
            after = stepper.step(fed).forecasts
            said = float(after.values[0, 0, trained.signature.median])


def test_the_first_forecast_is_the_open_loop_s(store: Store, tmp_path: Path) -> None:
    trained = alone()
    closed = pl.read_parquet(predict_closed(trained, store, tmp_path / "c.parquet", 1).path)
    opened = pl.read_parquet(predict(trained, store, tmp_path / "o.parquet", last=True).path)
    opened = opened.filter(pl.col("h") == 1).sort("unique_id")
    np.testing.assert_allclose(closed.sort("unique_id")["yhat"], opened["yhat"], rtol=1e-5)


def test_a_warm_up_hides_what_comes_after_it(store: Store, tmp_path: Path) -> None:
    trained = alone()
    out = tmp_path / "out.parquet"
    found = pl.read_parquet(predict_closed(trained, store, out, STEPS, warmup=10).path)
    assert sorted(found["unique_id"].unique()) == ["a", "c"]
    cut = waves({"a": 40, "b": 7, "c": 12}).drop("x").filter(pl.col("unique_id") != "b")
    cut = cut.with_columns(pl.int_range(pl.len()).over("unique_id").alias("n"))
    early = stored(tmp_path, cut.filter(pl.col("n") < 10).drop("n"), "early", max_gap=3, past=[])
    assert early.keys == ["a", "c"]
    other = pl.read_parquet(predict_closed(trained, early, tmp_path / "e.parquet", STEPS).path)
    by = ["unique_id", "h"]
    assert found.sort(by)["cutoff"].equals(other.sort(by)["cutoff"])
    np.testing.assert_allclose(found.sort(by)["yhat"], other.sort(by)["yhat"], rtol=1e-5)


def test_states_are_not_modified_and_come_back_advanced() -> None:
    trained = alone()
    net = trained.network
    x = inputs(3, 12, 0, torch.float32)
    x = Inputs(x.values[..., :1], x.clocks, x.codes)
    with torch.inference_mode():
        _, state = net.unroll(x, net.initial_state(3))
        before = [tensor.clone() for tensor in (*state.encoder, *state.layers[0])]
        clocks = torch.zeros(3, 4, x.clocks.shape[2])
        whole, _ = closed_loop(net, state, clocks, x.codes)
        first, after = closed_loop(net, state, clocks[:, :2], x.codes)
        _, fed = net.step(Inputs(first[:, 1:, None].float(), clocks[:, :1], x.codes), after)
        rest, _ = closed_loop(net, fed, clocks[:, 2:], x.codes)
    for old, new in zip(before, (*state.encoder, *state.layers[0]), strict=True):
        assert torch.equal(old, new)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)


def test_what_cannot_be_fed_back_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="needs values of x that nobody knows"):
        require_closed(model())
    supervised = alone()
    supervised.signature = dataclasses.replace(
        supervised.signature, task="classification", past=("x",)
    )
    with pytest.raises(ArtifactError, match="a classification cannot run in a closed loop"):
        require_closed(supervised)
    both = alone()
    layer = dataclasses.replace(both.spec.layers[0], name="both", kind="bilstm")
    both.spec = dataclasses.replace(both.spec, layers=(layer,))
    with pytest.raises(ArtifactError, match=r"layer 'both' \(bilstm\)"):
        require_closed(both)
    with pytest.raises(DataError, match="no series has the 99 rows"):
        predict_closed(alone(), store, tmp_path / "out.parquet", 2, warmup=99)
