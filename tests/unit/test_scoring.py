from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from models import HOUR_US, model, stored, waves
from networks import SPECS

from forecastd.data.store import Store
from forecastd.errors import UserError
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.scoring.predict import predict
from forecastd.scoring.tables import output_schema
from forecastd.series import Frequency, Keys, ObservationBatch


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Series a, b with a filled hole and a reset, c of one row, and an unknown one."""
    frame = waves({"a": 40, "b": 10, "c": 1, "new": 7})
    frame = frame.vstack(waves({"b": 10}, seed=1, first_hour=12))
    frame = frame.vstack(waves({"b": 5}, seed=2, first_hour=40))
    return stored(tmp_path, frame, max_gap=3)


def written(name: str, store: Store, folder: Path, *, last: bool = False) -> pl.DataFrame:
    result = predict(model(name), store, folder / "out.parquet", last=last)
    frame = pl.read_parquet(result.path)
    assert result.rows == len(frame)
    assert result.forecasts * SPECS[name].head.horizon == len(frame)
    return frame


@pytest.mark.shows("S35", "S37")
@pytest.mark.trap(22)
@pytest.mark.parametrize("name", SPECS)
def test_batch_scoring_is_stepping(name: str, store: Store, tmp_path: Path) -> None:
    trained = model(name)
    frame = written(name, store, tmp_path)
    keys = np.repeat(store.keys, np.diff(store.offsets))[store.observed].tolist()
    batch = ObservationBatch(
        Keys.of(keys), store.times[store.observed], np.array(store.values[store.observed])
    )
    forecasts = TorchStepper(trained, 9).step(batch).forecasts
    assert len(forecasts) * SPECS[name].head.horizon == len(frame)
    cutoffs = frame["cutoff"].cast(pl.Int64)
    by_origin = frame.with_columns(cutoff=cutoffs).partition_by(
        "unique_id", "cutoff", as_dict=True, maintain_order=True
    )
    signature = trained.signature
    for key, origin, values in zip(
        forecasts.keys, forecasts.origins.tolist(), forecasts.values, strict=True
    ):
        rows = by_origin[key, origin]
        horizon = np.arange(1, signature.horizon + 1)
        assert rows["h"].to_list() == horizon.tolist()
        assert rows["ds"].cast(pl.Int64).to_list() == (origin + HOUR_US * horizon).tolist()
        found = rows["yhat"].to_numpy()
        np.testing.assert_allclose(found, values[:, signature.median], rtol=1e-5, atol=1e-4)
        for level in signature.levels:
            for side, place in zip(("lo", "hi"), signature.interval(level), strict=True):
                found = rows[f"yhat_{side}_{level}"].to_numpy()
                np.testing.assert_allclose(found, values[:, place], rtol=1e-5, atol=1e-4)


@pytest.mark.shows("S88")
def test_the_last_origin_of_each_series(store: Store, tmp_path: Path) -> None:
    every = written("lstm_quantile", store, tmp_path)
    last = written("lstm_quantile", store, tmp_path, last=True)
    newest = every.filter(pl.col("cutoff") == pl.col("cutoff").max().over("unique_id"))
    order = ["unique_id", "h"]
    assert (
        last.sort(order)
        .drop("yhat", r"^yhat_.*$")
        .equals(newest.sort(order).drop("yhat", r"^yhat_.*$"))
        or last.columns == newest.columns
    )
    assert last["unique_id"].n_unique() == 4
    np.testing.assert_allclose(
        last.sort(order)["yhat"], newest.sort(order)["yhat"], rtol=1e-5, atol=1e-4
    )


def test_rows_of_a_series_are_in_order(store: Store, tmp_path: Path) -> None:
    frame = written("lstm_quantile", store, tmp_path)
    for part in frame.partition_by("unique_id", maintain_order=True):
        assert part.equals(part.sort("cutoff", "h"))
    assert (frame["yhat_lo_80"] <= frame["yhat"]).all()
    assert (frame["yhat"] <= frame["yhat_hi_80"]).all()


def test_a_failed_write_leaves_the_older_file(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    target.write_bytes(b"before")

    def fail(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="cannot write"):
        predict(model(), store, target, report=fail)
    assert target.read_bytes() == b"before"
    assert not list(tmp_path.glob(".*partial"))


def test_an_unwritable_place_is_a_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*nowhere"):
        predict(model(), store, tmp_path / "nowhere" / "out.parquet")


def test_progress_ends_at_the_total(store: Store, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    predict(model(), store, tmp_path / "out.parquet", report=lambda *news: told.append(news))
    assert told[-1] == (len(store.times), len(store.times))


def test_the_columns_have_their_names() -> None:
    signature = model().signature
    assert output_schema(signature).names == [
        "unique_id", "ds", "cutoff", "h", "yhat", "yhat_lo_80", "yhat_hi_80",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("frequency", "zone", "expected"),
    [
        ("1", False, "int64"),
        ("1h", True, "timestamp[us, tz=UTC]"),
        ("1mo", False, "timestamp[us]"),
    ],
)
def test_times_are_of_the_kind_of_the_data(frequency: str, zone: bool, expected: str) -> None:
    signature = dataclasses.replace(
        model().signature, frequency=Frequency.parse(frequency), time_zone=zone, id=None
    )
    schema = output_schema(signature)
    assert str(schema.field("ds").type) == str(schema.field("cutoff").type) == expected
    assert schema.names[0] == "unique_id"
