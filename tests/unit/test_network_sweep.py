"""A store from end to end: what is said of a row depends on nothing after it, or beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from models import model, stored, waves
from networks import SPECS, network

from forecastd.artifact import Artifact
from forecastd.data.lanes import pieces_of
from forecastd.data.store import Store
from forecastd.evaluation.evaluate import evaluate
from forecastd.features.encoder import Inputs
from forecastd.network.model import weights_of
from forecastd.network.spec import LayerSpec
from forecastd.network.sweep import last_pieces, newest, observed_between, windows_before
from forecastd.scoring.predict import predict

WINDOW = 12


def both_ways(output: str) -> Artifact:
    """Return a model whose network needs the future, trained on windows of 12 rows."""
    made = model("gaussian")
    layer = LayerSpec("both", "bilstm", {"hidden": 3, "output": output})
    made.spec = dataclasses.replace(SPECS["gaussian"], layers=(layer,))
    made.weights = weights_of(network(made.spec, torch.float32))
    made.provenance = {"config": {"train": {"sequence": WINDOW}}}
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Series a; b with a hole that resets; c of two rows."""
    frame = waves({"a": 30, "b": 9, "c": 2}).vstack(waves({"b": 6}, seed=1, first_hour=30))
    return stored(tmp_path, frame, max_gap=3)


def key_at(store: Store, row: int) -> str:
    return store.keys[int(np.searchsorted(store.offsets, row, "right")) - 1]


def alone(made: Artifact, store: Store, begin: int, lead: int, end: int) -> np.ndarray:
    """Return the forecast of one window by itself, its features warmed by `lead` rows before."""

    def inputs(rows: slice) -> Inputs:
        times = np.array(store.times[rows])
        codes = made.vocabulary.encode(
            [store.keys[int(np.searchsorted(store.offsets, rows.start, "right")) - 1]]
        )
        return Inputs(
            torch.from_numpy(np.array(store.values[rows])[None]),
            torch.from_numpy(made.clocks(times[None])),
            torch.from_numpy(codes),
        )

    net = made.network.eval()
    with torch.inference_mode():
        state = net.initial_state(1)
        if lead:
            state = net.warm(inputs(slice(begin - lead, begin)), state)
        return net.unroll(inputs(slice(begin, end)), state)[0].unscaled()[0, -1].numpy()


@pytest.mark.shows("S20")
@pytest.mark.trap(21)
@pytest.mark.parametrize("output", ["sequence", "last"])
def test_a_forecast_that_needs_the_future_sees_a_window_up_to_its_origin(
    output: str, store: Store, tmp_path: Path
) -> None:
    made = both_ways(output)
    frame = pl.read_parquet(predict(made, store, tmp_path / "out.parquet").path)
    signature = made.signature
    assert len(frame) == int(np.sum(store.observed)) * signature.horizon
    for first, stop in np.asarray(store.segments)[:, 1:].tolist():
        for origin in range(first, stop):
            begin = max(first, origin + 1 - WINDOW)
            lead = min(made.spec.features.lead, begin - first)
            expected = alone(made, store, begin, lead, origin + 1)[:, signature.median]
            time = store.times[origin]
            key = key_at(store, origin)
            found = frame.filter(
                (pl.col("cutoff").cast(pl.Int64) == time) & (pl.col("unique_id") == key)
            )
            np.testing.assert_allclose(found["yhat"], expected, rtol=1e-4, atol=1e-4)


def test_such_a_forecast_can_be_evaluated(store: Store) -> None:
    ends = store.offsets[1:]
    result = evaluate(both_ways("last"), store, store.offsets[:-1], ends)
    other = evaluate(model("gaussian"), store, store.offsets[:-1], ends)
    assert (result.origins, result.values) == (other.origins, other.values)
    assert result.metrics["last_value"] == pytest.approx(other.metrics["last_value"])


def test_the_newest_is_the_last_observed_row_within_bounds(store: Store) -> None:
    begin, end = store.offsets[:-1].copy(), store.offsets[1:].copy()
    end[0] = begin[0] + 5
    end[2] = begin[2]
    series = np.repeat(np.arange(3), np.diff(store.offsets))
    rows = np.arange(len(store.times))
    found = rows[newest(store, begin, end)(series, rows)]
    assert found.tolist() == [begin[0] + 4, end[1] - 1]
    within = rows[observed_between(store, begin, end)(series, rows)]
    assert within.tolist() == [r for r in range(begin[0], end[0])] + [
        r for r in range(begin[1], end[1]) if store.observed[r]
    ]


def test_the_last_stretch_of_each_series(store: Store) -> None:
    ends = store.offsets[1:]
    pieces = pieces_of(store, store.offsets[:-1], ends, ends)
    assert len(pieces) == 4
    found = last_pieces(pieces)
    assert found.series.tolist() == [0, 1, 2]
    assert found.lengths.tolist() == [30, 6, 2]
    assert len(last_pieces(pieces.take(np.array([], np.int64)))) == 0


def test_windows_end_at_the_wanted_rows(store: Store) -> None:
    ends = store.offsets[1:]
    pieces = pieces_of(store, store.offsets[:-1], ends, ends)
    windows = windows_before(pieces, observed_between(store, store.offsets[:-1], ends), 4)
    assert len(windows) == int(np.sum(store.observed))
    assert windows.lengths.max() == 4
    assert windows.lengths[:5].tolist() == [1, 2, 3, 4, 4]
