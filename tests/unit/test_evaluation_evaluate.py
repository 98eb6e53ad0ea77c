from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from models import model, stored, waves

from forecastd.artifact import Artifact
from forecastd.config import DataSettings, SplitSettings
from forecastd.data.split import split
from forecastd.data.statistics import train_statistics
from forecastd.data.store import Store, prepare
from forecastd.errors import DataError
from forecastd.evaluation.evaluate import Scoreboard, evaluate
from forecastd.features.spec import FeatureSpec
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.model import ForecastNetwork, weights_of
from forecastd.network.spec import HeadSpec, NetworkSpec, lstm_chain
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.series import Keys, ObservationBatch

HORIZON = 5


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Series a and b; b has a null, a filled hole of two hours, and a reset after 10 hours."""
    second = waves({"b": 12}, seed=1, first_hour=22)
    third = waves({"b": 20}, seed=2, first_hour=44)
    frame = waves({"a": 60, "b": 20}).vstack(second).vstack(third)
    frame = frame.with_columns(y=pl.when(pl.int_range(pl.len()) != 65).then("y"))
    return stored(tmp_path, frame, max_gap=3)


def stepped(trained: Artifact, store: Store, series: int) -> dict[int, np.ndarray]:
    """Forecasts of the daemon's stepper by row of the store."""
    rows = np.arange(*store.rows_of(series).indices(len(store.times)))
    rows = rows[store.observed[rows]]
    keys = Keys.repeated(store.keys[series], len(rows))
    batch = ObservationBatch(keys, store.times[rows], np.array(store.values[rows]))
    return dict(
        zip(rows.tolist(), TorchStepper(trained, 9).step(batch).forecasts.values, strict=True)
    )


def test_evaluation_scores_what_the_stepper_forecasts(store: Store) -> None:
    trained = model(max_gap=3)
    begin, end = store.offsets[:-1] + 15, store.offsets[1:] - 2
    result = evaluate(trained, store, begin, end)
    errors, last, origins = [], [], 0
    for series in range(2):
        forecasts = stepped(trained, store, series)
        values = np.array(store.values[:, 0])
        for row in range(begin[series] - 1, end[series] - HORIZON):
            if row not in forecasts:
                continue
            origins += 1
            segment_end = store.segments[np.searchsorted(store.segments[:, 2], row, "right"), 2]
            known = values[store.offsets[series] : row + 1]
            newest = known[np.isfinite(known)][-1]
            for ahead in range(1, HORIZON + 1):
                if row + ahead < segment_end and np.isfinite(values[row + ahead]):
                    errors.append(abs(values[row + ahead] - forecasts[row][ahead - 1, 1]))
                    last.append(abs(values[row + ahead] - newest))
    assert result.origins == origins
    assert result.values == len(errors)
    assert result.series == 2
    assert result.metrics["model"]["mae"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert result.metrics["last_value"]["mae"] == pytest.approx(np.mean(last), rel=1e-5)


def test_all_forecasters_are_scored_on_the_same_values(store: Store) -> None:
    board = Scoreboard(model(), store)
    board.add(0, np.arange(60), np.zeros((60, HORIZON, 3), np.float32))
    board.add(1, np.array([70]), np.zeros((1, HORIZON, 3), np.float32))
    assert board.model.count == board.last.count == board.seasonal.count > 0


def test_progress_ends_at_the_total(store: Store) -> None:
    told: list[tuple[int, int]] = []
    evaluate(model(), store, store.offsets[:-1], store.offsets[1:],
             lambda done, total: told.append((done, total)))  # fmt: skip
    assert told[-1][0] == told[-1][1] > 0


def test_too_few_rows_are_a_sentence(store: Store) -> None:
    with pytest.raises(DataError, match="no origin has its whole horizon"):
        evaluate(model(), store, store.offsets[:-1], store.offsets[:-1] + 3)


def test_unknown_series_are_scored_by_the_median_scale(tmp_path: Path) -> None:
    trained = model()  # mase scales 0.5, 1 and 1.5; deviations 1, 2 and 3
    board = Scoreboard(trained, stored(tmp_path, waves({"c": 30, "new": 30})))
    assert board.mase_scale.tolist() == [1.5, 1.0]
    assert board.deviation.tolist() == [3.0, 2.0]


def test_the_known_floors_of_a_real_data_set(project: Path, tmp_path: Path) -> None:
    """ETTh1, 96 hours ahead, as everyone splits and scales it: last value and last season."""
    folder = project.parent / "shared" / "data"
    if not (folder / "ETTh1.parquet").is_file():
        pytest.skip("ETTh1.parquet of the shared data is not here")
    columns = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    data = DataSettings(path="ETTh1.parquet", target=columns, freq="1h", season=24)
    store = prepare(data, folder, tmp_path / "store")
    parts = split(store, SplitSettings(train=8640, valid=2880, test=2880))
    statistics = train_statistics(store, parts)
    horizon = 96
    spec = NetworkSpec(
        FeatureSpec(1, (), 24.0, 0, 0, (8,)),
        lstm_chain(1, 1, 0.0, "sequence"),
        HeadSpec("point", horizon, (), 0),
    )
    torch.manual_seed(0)
    trained = Artifact(
        signature=store.signature(horizon, ()),
        spec=spec,
        vocabulary=Vocabulary.learn(store.keys, {}),
        statistics={"mean": statistics.mean, "std": statistics.std,
                    "mase_scale": statistics.mase_scale},
        max_gap=store.max_gap,
        weights=weights_of(ForecastNetwork(spec)),
        provenance={},
        metrics={},
    )  # fmt: skip
    board = Scoreboard(trained, store)
    for series in range(store.series_count):
        rows = np.arange(parts.valid_end[series] - 1, parts.test_end[series] - horizon)
        board.add(series, rows, np.zeros((len(rows), horizon, 1), np.float32))
    result = board.result()
    assert result.origins == 7 * (2880 - horizon + 1)
    last, season = (result.metrics[name] for name in ("last_value", "seasonal_naive"))
    assert (last["mse_std"], last["mae_std"]) == pytest.approx((1.294, 0.713), abs=0.002)
    assert (season["mse_std"], season["mae_std"]) == pytest.approx((0.512, 0.433), abs=0.002)
