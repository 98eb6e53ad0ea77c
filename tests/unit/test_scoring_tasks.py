"""Classifications and regressions: what is said, on disk, in files and in metrics."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from answers import STEPS, labelled, prepared, responses
from task_models import CLASSES, KEYS, LABELS, NETWORKS, alone, trained, written

from forecastd import artifact
from forecastd.artifact import Example
from forecastd.data.store import Store
from forecastd.errors import ArtifactError, DataError
from forecastd.evaluation.answers import evaluate_answers
from forecastd.network.model import ForecastNetwork, weights_of
from forecastd.network.spec import HeadSpec, NetworkSpec


@pytest.mark.shows("S1", "S6", "S7", "S20", "S34", "S43", "S116")
@pytest.mark.parametrize("name", NETWORKS)
def test_series_of_all_lengths_are_said_as_each_by_itself(name: str, tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS[name])
    frame = written(model, store, tmp_path).sort("key", "step")
    assert frame.columns == ["key", "step", "label", *(f"score_{name}" for name in CLASSES)]
    once = name not in {"every_step", "both_ways", "dropping"}
    for series, (key, steps) in enumerate(STEPS.items()):
        own = frame.filter(pl.col("key") == key)
        assert own["step"].to_list() == ([steps] if once else list(range(1, steps + 1)))
        scores = own.select(pl.col("^score_.*$")).to_numpy()
        np.testing.assert_allclose(scores, alone(model, store, series), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-6)
        assert own["label"].to_list() == [CLASSES[code] for code in scores.argmax(1)]


@pytest.mark.shows("S8", "S9", "S35")
@pytest.mark.parametrize("name", ["every_step", "at_the_end", "both_ways_at_the_end"])
def test_responses_have_a_column_each(name: str, tmp_path: Path) -> None:
    store = responses(tmp_path)
    model = trained(store, NETWORKS[name])
    frame = written(model, store, tmp_path).sort("key", "step")
    assert frame.columns == ["key", "step", "yhat_r1", "yhat_r2"]
    for series, key in enumerate(STEPS):
        found = frame.filter(pl.col("key") == key).select("yhat_r1", "yhat_r2").to_numpy()
        np.testing.assert_allclose(found, alone(model, store, series), rtol=1e-5)


def test_the_last_of_each_series(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS["every_step"])
    every = written(model, store, tmp_path).sort("key", "step")
    last = written(model, store, tmp_path, last=True).sort("key", "step")
    assert dict(last.select("key", "step").iter_rows()) == STEPS
    newest = every.filter(pl.col("step") == pl.col("step").max().over("key"))
    np.testing.assert_allclose(last["score_cat"], newest["score_cat"], rtol=1e-5)


@pytest.mark.shows("S17", "S120")
@pytest.mark.trap(40)
def test_dropout_drops_only_where_it_is_asked_for(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS["dropping"])
    plain = written(model, store, tmp_path)
    assert written(model, store, tmp_path).equals(plain)
    state = torch.get_rng_state()
    one, same, other = (written(model, store, tmp_path, dropout=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.equals(same)
    assert not one.equals(other)
    assert not one.equals(plain)
    assert written(model, store, tmp_path).equals(plain)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_task_survives_the_disk(name: str, tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS[name])
    rows = store.rows_of(0)
    example = Example(store.keys[0], np.array(store.times[rows]), np.array(store.values[rows]))
    artifact.save(tmp_path / "model", model, example)
    loaded = artifact.load(tmp_path / "model")
    assert loaded.signature == model.signature
    assert loaded.spec == model.spec
    np.testing.assert_array_equal(alone(loaded, store, 1), alone(model, store, 1))
    content = json.loads((tmp_path / "model" / "example.json").read_text())
    assert np.shape(content["values"]) == (STEPS["a"], 2)
    assert np.shape(content["expected"]) == (1, 3)
    assert content["span"] == 1
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Classification of `label`" in card
    assert "bird, cat, dog" in card


def test_the_card_of_a_regression_names_its_responses(tmp_path: Path) -> None:
    store = responses(tmp_path, cap=120.0)
    model = trained(store, NETWORKS["every_step"])
    example = Example("a", np.array(store.times[:3]), np.array(store.values[:3]))
    artifact.save(tmp_path / "model", model, example)
    assert json.loads((tmp_path / "model" / "example.json").read_text())["span"] == 10
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Regression of `r1`, `r2`" in card
    assert "120" in card
    artifact.load(tmp_path / "model")


def test_a_head_of_another_task_is_damage(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS["every_step"])
    rows = store.rows_of(0)
    example = Example(store.keys[0], np.array(store.times[rows]), np.array(store.values[rows]))
    model.spec = NetworkSpec(
        model.spec.features, model.spec.layers, HeadSpec("classes", 1, outputs=4)
    )
    model.weights = weights_of(ForecastNetwork(model.spec))
    artifact.save(tmp_path / "model", model, example)
    with pytest.raises(ArtifactError, match="do not agree on outputs"):
        artifact.load(tmp_path / "model")


def bounds(store: Store) -> tuple[np.ndarray, np.ndarray]:
    return store.offsets[:-1], store.offsets[1:]


@pytest.mark.shows("S6", "S7", "S122")
@pytest.mark.parametrize("name", ["every_step", "at_the_end", "both_ways"])
def test_metrics_of_classes_are_their_definitions(name: str, tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS[name], seed=3)
    result = evaluate_answers(model, store, *bounds(store))
    frame = written(model, store, tmp_path)
    truth = [LABELS[KEYS.index(key)] for key in frame["key"]]
    said = frame["label"].to_list()
    assert result.answers == len(frame)
    assert result.classes == CLASSES
    for t, true in enumerate(CLASSES):
        for s, name_of in enumerate(CLASSES):
            count = sum(a == true and b == name_of for a, b in zip(truth, said, strict=True))
            assert result.confusion[t][s] == count
    metrics = result.metrics["model"]
    hits = [a == b for a, b in zip(truth, said, strict=True)]
    assert metrics["accuracy"] == pytest.approx(np.mean(hits))
    recalls = [np.mean([h for h, t in zip(hits, truth, strict=True) if t == c]) for c in CLASSES]
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    chances = [row[f"score_{t}"] for row, t in zip(frame.to_dicts(), truth, strict=True)]
    assert metrics["log_loss"] == pytest.approx(-np.mean(np.log(chances)), rel=1e-5)
    scores = []
    for label in {*truth, *said}:
        hit = sum(a == b == label for a, b in zip(truth, said, strict=True))
        scores.append(2 * hit / (truth.count(label) + said.count(label)))
    assert metrics["macro_f1"] == pytest.approx(np.mean(scores))


def test_the_baseline_of_classes_is_the_commonest(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(LABELS))
    model = trained(store, NETWORKS["every_step"])
    constant = evaluate_answers(model, store, *bounds(store)).metrics["majority"]
    assert constant["accuracy"] == pytest.approx(4 / 9)
    assert constant["balanced_accuracy"] == pytest.approx(1 / 3)
    shares = np.array([4, 2, 3]) / 9
    assert constant["log_loss"] == pytest.approx(-(shares * np.log(shares)).sum())


@pytest.mark.shows("S8", "S9")
def test_metrics_of_responses_are_their_definitions(tmp_path: Path) -> None:
    store = responses(tmp_path)
    model = trained(store, NETWORKS["every_step"])
    result = evaluate_answers(model, store, *bounds(store))
    frame = written(model, store, tmp_path).sort("key", "step")
    truth = np.array(store.values[:, :2], np.float64)
    said = frame.select("yhat_r1", "yhat_r2").to_numpy().astype(float)
    found = result.metrics["model"]
    for place, name in enumerate(("r1", "r2")):
        error = said[:, place] - truth[:, place]
        assert found[f"rmse_{name}"] == pytest.approx(math.sqrt(np.mean(error**2)))
        assert found[f"mae_{name}"] == pytest.approx(np.mean(np.abs(error)))
        share = 1 - np.sum(error**2) / np.sum((truth[:, place] - truth[:, place].mean()) ** 2)
        assert found[f"r2_{name}"] == pytest.approx(share)
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean((said - truth) ** 2)))
    constant = result.metrics["training_mean"]
    expected = math.sqrt(np.mean((truth - [20.0, 110.0]) ** 2))
    assert constant["rmse"] == pytest.approx(expected)


def test_only_the_last_step_of_each_series_is_scored_where_wanted(tmp_path: Path) -> None:
    store = responses(tmp_path)
    model = trained(store, NETWORKS["every_step"])
    result = evaluate_answers(model, store, *bounds(store), last=True)
    frame = written(model, store, tmp_path, last=True).sort("key")
    truth = np.array(store.values[store.offsets[1:] - 1, :2])
    said = frame.select("yhat_r1", "yhat_r2").to_numpy()
    assert result.answers == len(KEYS)
    expected = math.sqrt(np.mean((said - truth) ** 2))
    assert result.metrics["model"]["rmse"] == pytest.approx(expected, rel=1e-5)


def test_rows_outside_of_the_part_are_read_but_not_scored(tmp_path: Path) -> None:
    store = responses(tmp_path)
    model = trained(store, NETWORKS["every_step"])
    begin, end = store.offsets[:-1].copy(), store.offsets[1:].copy()
    begin[0] += 2
    end[1:] = begin[1:]
    result = evaluate_answers(model, store, begin, end)
    said, truth = alone(model, store, 0)[2:], np.array(store.values[2:4, :2])
    expected = math.sqrt(np.mean((said - truth) ** 2))
    assert (result.answers, result.series) == (2, 1)
    assert result.metrics["model"]["rmse"] == pytest.approx(expected, rel=1e-5)


def test_rows_without_answers_are_told(tmp_path: Path) -> None:
    store = responses(tmp_path)
    model = trained(store, NETWORKS["every_step"])
    nothing = store.offsets[:-1]
    with pytest.raises(DataError, match="no row to evaluate has an answer in r1 and r2"):
        evaluate_answers(model, store, nothing, nothing)
