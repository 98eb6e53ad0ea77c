"""Scales that stay: the statistics of the training part, and the scales made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import stored, waves
from small_runs import prepared, trained
from typer.testing import CliRunner

from forecast_cli.main import app
from forecastd import artifact
from forecastd.config import SplitSettings
from forecastd.data.moments import Moments, train_moments
from forecastd.data.split import split
from forecastd.data.store import Store
from forecastd.errors import ConfigError, DataError
from forecastd.features.scaling import FixedScale
from forecastd.training.run import Prepared

LENGTHS = {"a": 60, "b": 45, "c": 80}
LSTM = {"type": "lstm", "hidden": 4}


def holed(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the data with missing values in y, and a level of x that is far from zero."""
    gone = (pl.int_range(pl.len()) % 7 == 3).alias("gone")
    return frame.with_columns(y=pl.when(~gone).then("y"), x=1e4 + pl.col("x"))


def rows_that_train(store: Store, settings: SplitSettings) -> np.ndarray:
    """Return the training rows [N, C], the slow way."""
    parts = split(store, settings)
    runs = zip(parts.train_begin, parts.train_end, strict=True)
    return np.concatenate([store.values[a:b] for a, b in runs]).astype(np.float64)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(tmp_path_factory.mktemp("moments"), holed(waves(LENGTHS)))


SPLITS = [
    SplitSettings(valid=5, test=7),
    SplitSettings(by="series", train=["c", "a"], valid=["b"], test=0),
]


@pytest.mark.shows("S54", "S85")
@pytest.mark.trap(35)
@pytest.mark.parametrize("settings", SPLITS, ids=["by time", "by series"])
@pytest.mark.parametrize("cells", [1, 6, 50, 1 << 20])
def test_moments_are_those_of_all_rows_that_train(
    store: Store, settings: SplitSettings, cells: int
) -> None:
    """Missing values are skipped; the deviation is by N - 1, whatever is read at once."""
    rows = rows_that_train(store, settings)
    found = train_moments(store, split(store, settings), block_cells=cells)
    np.testing.assert_array_equal(found.count, (~np.isnan(rows)).sum(0))
    np.testing.assert_allclose(found.mean, np.nanmean(rows, 0), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, np.nanstd(rows, 0, ddof=1), rtol=1e-9)
    np.testing.assert_array_equal(found.low, np.nanmin(rows, 0))
    np.testing.assert_array_equal(found.high, np.nanmax(rows, 0))
    assert not np.isclose(found.deviation, np.nanstd(rows, 0), rtol=1e-4).any()


def test_channels_before_the_first_are_left_out(store: Store) -> None:
    parts = split(store, SPLITS[0])
    both, one = train_moments(store, parts), train_moments(store, parts, 1)
    np.testing.assert_array_equal(one.mean, both.mean[1:])


numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=40)


@given(numbers, st.integers(1, 5))
def test_merged_moments_are_those_of_the_whole(values: list[float], cut: int) -> None:
    rows = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2)
    whole, merged = Moments.of(rows), Moments.of(rows[:cut]).merged(Moments.of(rows[cut:]))
    for name in ("count", "mean", "low", "high"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), atol=1e-6)
    np.testing.assert_allclose(merged.deviation, whole.deviation, rtol=1e-9, atol=1e-6)


def test_a_frame_is_pooled_by_channel_or_as_one() -> None:
    frames = np.random.default_rng(0).normal(size=(50, 3, 4, 2)) * [1, 5]
    moments = Moments.of(frames.reshape(50, -1))
    for groups, flat in ((2, frames.reshape(-1, 2)), (1, frames.reshape(-1, 1))):
        pooled = moments.pooled(groups)
        np.testing.assert_allclose(pooled.mean, flat.mean(0), rtol=1e-9)
        np.testing.assert_allclose(pooled.deviation, flat.std(0, ddof=1), rtol=1e-9)
        np.testing.assert_array_equal(pooled.high, flat.max(0))


def test_what_does_not_differ_is_constant() -> None:
    rows = np.array([[3.0, 1.0, np.nan, 2.0, 0.0], [3.0, 1.5, np.nan, np.nan, 0.0]])
    assert Moments.of(rows).constant.tolist() == [True, False, True, True, True]


# From the config to the network


def scaled(folder: Path, frame: pl.DataFrame | None = None, **entering: Any) -> Prepared:
    table = {"type": "sequence_input", "size": 2, **entering}
    layers = {"layers": [table, LSTM], "horizon": 4}
    frame = waves(dict.fromkeys("abc", 100)) if frame is None else frame
    return prepared(folder, frame, network=layers, split={"valid": 20, "test": 20})


def scale_of(ready: Prepared) -> tuple[np.ndarray, np.ndarray]:
    scale = ready.trainer.network.encoder.scale
    assert isinstance(scale, FixedScale)
    return scale.location.numpy(force=True), scale.spread.numpy(force=True)


def expected(ready: Prepared, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return location and spread by the formulas of the document."""
    rows = rows_that_train(ready.store, ready.task.config.split)
    low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
    mean, one = np.nanmean(rows, 0), np.ones(2)
    return {
        "none": (np.zeros(2), one),
        "zerocenter": (mean, one),
        "zscore": (mean, np.nanstd(rows, 0, ddof=1)),
        "rescale-symmetric": ((low + high) / 2, (high - low) / 2),
        "rescale-zero-one": (low, high - low),
    }[kind]


@pytest.mark.shows("S18", "S54", "S85")
@pytest.mark.trap(35)
@pytest.mark.parametrize(
    "kind", ["none", "zerocenter", "zscore", "rescale-symmetric", "rescale-zero-one"]
)
def test_the_network_starts_with_the_scale_of_the_training_part(tmp_path: Path, kind: str) -> None:
    frame = holed(waves(dict.fromkeys("abc", 100)))
    ready = scaled(tmp_path, frame, normalization=kind)
    location, spread = expected(ready, kind)
    found = scale_of(ready)
    np.testing.assert_allclose(found[0], location, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1], spread, rtol=1e-6)
    rows = rows_that_train(ready.store, ready.task.config.split)
    values = (rows - found[0].astype(float)) / found[1]
    low, high = np.nanmin(values, 0), np.nanmax(values, 0)
    ends = {"rescale-symmetric": (-1, 1), "rescale-zero-one": (0, 1)}
    if kind in ends:
        np.testing.assert_allclose([low, high], np.repeat([ends[kind]], 2, 0).T, atol=1e-3)
    with torch.no_grad():
        encoder = ready.trainer.network.encoder
        ready.trainer.network.eval()
        seen = encoder.scale.unroll(
            torch.tensor(rows[None]), encoder.scale.initial_state(1, encoder.device)
        )
    np.testing.assert_allclose(seen[0].location[0, -1], found[0], rtol=1e-6)


def test_one_scale_for_all_channels(tmp_path: Path) -> None:
    ready = scaled(tmp_path, normalization="zscore", dimension="all")
    rows = rows_that_train(ready.store, ready.task.config.split)
    location, spread = scale_of(ready)
    np.testing.assert_allclose(location, [rows.mean()] * 2, rtol=1e-5)
    np.testing.assert_allclose(spread, [rows.std(ddof=1)] * 2, rtol=1e-5)


@pytest.mark.shows("S18")
def test_numbers_that_are_given_count_instead_of_those_of_the_data(tmp_path: Path) -> None:
    given = {"mean": [1.0, 2.0], "deviation": 4.0}
    location, spread = scale_of(scaled(tmp_path, normalization="zscore", **given))
    assert (location.tolist(), spread.tolist()) == ([1, 2], [4, 4])
    ready = scaled(tmp_path, normalization="rescale-zero-one", min=-100)
    rows = rows_that_train(ready.store, ready.task.config.split)
    location, spread = scale_of(ready)
    np.testing.assert_allclose(location, [-100, -100])
    np.testing.assert_allclose(spread, rows.max(0) + 100, rtol=1e-6)


@pytest.mark.parametrize("kind", ["zscore", "rescale-symmetric", "rescale-zero-one"])
def test_a_column_that_does_not_change_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    still = waves(dict.fromkeys("abc", 100)).with_columns(x=pl.lit(3.0))
    with pytest.raises(DataError, match=f"'x' has no two different values.*{kind}"):
        scaled(tmp_path, still, normalization=kind)
    location, _ = scale_of(scaled(tmp_path, still, normalization="zerocenter"))
    assert location[1] == 3


def test_given_numbers_that_leave_no_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="divides by zero"):
        scaled(tmp_path, normalization="rescale-zero-one", max=-1e9)


def test_a_scale_that_stays_is_trained_with_saved_and_loaded(tmp_path: Path) -> None:
    ready = scaled(tmp_path, normalization="zscore")
    before = scale_of(ready)
    run = trained(ready, steps=2)
    weights = artifact.load(run.folder).weights
    np.testing.assert_array_equal(weights["encoder.scale.location"], before[0])
    np.testing.assert_array_equal(weights["encoder.scale.spread"], before[1])


@pytest.mark.shows("S18")
def test_series_shorter_than_the_network_needs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="60 steps to train on, and layer 'sequence_input_1' needs"):
        prepared(
            tmp_path,
            waves({"a": 100, "b": 300}),
            network={"layers": [{"type": "sequence_input", "size": 2, "min_length": 70}, LSTM]},
            split={"valid": 20, "test": 20},
            train={"sequence": 90},
        )


@pytest.mark.shows("S18")
@pytest.mark.trap(18)
@pytest.mark.parametrize("dimension", ["auto", "channel", "element", "all"])
def test_frames_are_scaled_by_channel_by_element_or_as_one(tmp_path: Path, dimension: str) -> None:
    """The target of a regression is no input, and has no part in the scale."""
    pixels = np.random.default_rng(0).normal(size=(300, 2, 2, 2)) * [1, 9] + [5, 100]
    names = [f"p{place}" for place in range(8)]
    frame = waves(dict.fromkeys("abc", 100)).hstack(pl.DataFrame(pixels.reshape(300, 8), names))
    entering = {"type": "sequence_input", "size": [2, 2, 2], "normalization": "zscore"}
    layers = [{**entering, "dimension": dimension}, {"type": "flatten"}, LSTM]
    ready = prepared(
        tmp_path,
        frame,
        data={"past": names},
        task={"kind": "regression"},
        network={"layers": layers},
        features={"lags": 0, "embedding": 0},
        split={"by": "series", "train": ["a", "b", "c"], "valid": 0, "test": 0},
    )
    stored = np.asarray(ready.store.values[:, 1:], np.float64)
    over = {"element": stored, "all": stored.reshape(-1, 1)}.get(dimension, stored.reshape(-1, 2))
    location, spread = scale_of(ready)
    times = 8 // over.shape[1]
    np.testing.assert_allclose(location, np.tile(over.mean(0), times), rtol=1e-5)
    np.testing.assert_allclose(spread, np.tile(over.std(0, ddof=1), times), rtol=1e-5)


@pytest.mark.shows("S18", "S109")
@pytest.mark.parametrize(
    ("entering", "words"),
    [
        ({"min_length": 50}, "series 'd' has 20 steps, and the model takes 50 or more"),
        ({"length": 60}, "series 'd' has 20 steps, and the model takes 60"),
        ({"length": 20}, "a series has 60 steps, and layer 'sequence_input_1' takes 20"),
    ],
)
def test_series_of_a_length_that_the_network_does_not_take_are_refused(
    tmp_path: Path, entering: dict[str, int], words: str
) -> None:
    table = {"type": "sequence_input", "size": 1, **entering}
    changes: dict[str, Any] = {
        "task": {"kind": "regression"},
        "network": {"layers": [table, {**LSTM, "output": "last"}]},
        "features": {"lags": 0, "embedding": 0},
        "split": {"by": "series", "train": ["a", "b", "c"], "valid": 0, "test": 0},
        "train": {"sequence": 60},
    }
    if entering.get("length") == 20:
        with pytest.raises(DataError, match=words):
            prepared(tmp_path, waves(dict.fromkeys("abc", 60)), **changes)
        return
    saved = trained(prepared(tmp_path, waves(dict.fromkeys("abc", 60)), **changes), steps=1).folder
    waves({"a": 60, "d": 20}).write_parquet(tmp_path / "other.parquet")
    arguments = ["predict", str(saved), str(tmp_path / "other.parquet"), "-o", str(tmp_path / "o")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, DataError), result.output
    assert words in str(result.exception)
