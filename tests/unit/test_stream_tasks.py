"""A classification or a regression follows a stream: what it says is what `predict` says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from answers import labelled, prepared, responses
from task_models import CLASSES, LABELS, NETWORKS, trained, written

from forecastd import artifact
from forecastd.artifact import Artifact, Example
from forecastd.connectors.contract import LineBatch
from forecastd.daemon.pipeline import Translation
from forecastd.data.store import Store
from forecastd.errors import ArtifactError
from forecastd.runtime.opening import Opened, open_model


def opened(model: Artifact, store: Store, folder: Path) -> Opened:
    rows = store.rows_of(0)
    example = Example(store.keys[0], np.array(store.times[rows]), np.array(store.values[rows]))
    artifact.save(folder / "model", model, example)
    return open_model(folder / "model", "cpu", 10, lambda remark: None)


def lines_of(store: Store) -> list[bytes]:
    keys = np.repeat(store.keys.tolist(), np.diff(store.offsets)).tolist()
    inputs = store.values[:, store.values.shape[1] - 2 :].tolist()
    rows = zip(keys, store.times.tolist(), inputs, strict=True)
    return [
        json.dumps({"key": key, "step": time, "x1": one, "x2": two}).encode()
        for key, time, (one, two) in rows
    ]


@pytest.mark.shows("S37", "S38")
def test_a_stream_of_inputs_gives_labels_and_scores(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS["every_step"])
    live = opened(model, store, tmp_path)
    translation = Translation.of(live.stepper)
    decoded = translation.decode(LineBatch("in", lines_of(store)))
    assert not decoded.rejects
    forecasts = live.stepper.step(decoded.batch).forecasts
    assert forecasts.values.shape == (9, 1, 3)
    said = [json.loads(line) for line in translation.encode(forecasts, "ndjson").lines]
    expected = written(model, store, tmp_path).sort("key", "step").to_dicts()
    for line, row in zip(said, expected, strict=True):
        assert list(line) == ["key", "cutoff", "label", "scores"]
        assert (line["key"], line["cutoff"], line["label"]) == tuple(row.values())[:3]
        scores = [row[f"score_{name}"] for name in CLASSES]
        assert list(line["scores"]) == list(CLASSES)
        np.testing.assert_allclose(list(line["scores"].values()), scores, rtol=1e-4)
    head_and_rows = translation.encode(forecasts, "arrow")
    schema = pa.ipc.read_schema(pa.py_buffer(head_and_rows.head))
    records = pa.ipc.read_record_batch(pa.py_buffer(head_and_rows.data), schema)
    assert records.column("label").to_pylist() == [row["label"] for row in expected]
    assert "score_cat" in schema.names


@pytest.mark.parametrize("name", ["every_step", "at_the_end"])
def test_a_stream_of_inputs_gives_numbers(name: str, tmp_path: Path) -> None:
    store = responses(tmp_path)
    model = trained(store, NETWORKS[name])
    live = opened(model, store, tmp_path)
    translation = Translation.of(live.stepper)
    decoded = translation.decode(LineBatch("in", lines_of(store)))
    forecasts = live.stepper.step(decoded.batch).forecasts
    said = [json.loads(line) for line in translation.encode(forecasts, "ndjson").lines]
    assert list(said[0]) == ["key", "cutoff", "yhat_r1", "yhat_r2"]
    found = pl.DataFrame(said)
    if name == "at_the_end":  # in a stream, each step is the last one so far
        found = found.filter(pl.col("cutoff") == pl.col("cutoff").max().over("key"))
    expected = written(model, store, tmp_path).sort("key", "step")
    for column in ("yhat_r1", "yhat_r2"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-5)


def test_answers_are_no_part_of_an_observation(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    live = opened(trained(store, NETWORKS["every_step"]), store, tmp_path)
    line = b'{"key": "a", "step": 1, "x1": 1.0, "x2": 2.0, "label": "dog"}'
    rejects = Translation.of(live.stepper).decode(LineBatch("in", [line])).rejects
    assert [reject.reason for reject in rejects] == ["unknown_column"]


def test_a_network_of_both_directions_cannot_follow(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    with pytest.raises(ArtifactError, match="cannot follow a stream: layer 'only'"):
        opened(trained(store, NETWORKS["both_ways"]), store, tmp_path)
