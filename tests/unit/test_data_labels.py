from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from answers import labelled, prepared, responses
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from forecastd.artifact import signature_from_json, signature_to_json
from forecastd.config import DataSettings, TaskSettings
from forecastd.data.for_model import store_for_model
from forecastd.data.labels import CLASSES_MAX, label_texts
from forecastd.data.store import open_store, prepare
from forecastd.errors import ArtifactError, DataError


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["dog", "cat", "dog"], ("cat", "dog")),
        ([10, 9, 10], ("9", "10")),
        ([2.0, 1.0, 1.0], ("1", "2")),
        ([True, False, True], ("false", "true")),
        (["10", "9", "b"], ("10", "9", "b")),
    ],
)
def test_labels_of_every_type_become_codes_of_sorted_classes(
    labels: list[Any], classes: tuple[str, ...], tmp_path: Path
) -> None:
    store = prepared(tmp_path, labelled(labels))
    assert store.columns.classes == classes
    assert store.columns.channels == ("label", "x1", "x2")
    texts = label_texts(pl.Series(labels)).to_list()
    for series, text in enumerate(texts):
        codes = store.values[store.rows_of(series), 0]
        assert set(codes.tolist()) == {float(classes.index(str(text)))}
    assert open_store(store.folder).columns == store.columns


def test_categories_are_labels(tmp_path: Path) -> None:
    frame = labelled(["b", "a", "b"]).cast({"label": pl.Categorical})
    assert prepared(tmp_path, frame).columns.classes == ("a", "b")


def test_named_classes_keep_their_order_and_others_are_missing(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(["dog", "cat", "emu"]), classes=["dog", "cat"])
    assert store.columns.classes == ("dog", "cat")
    assert_array_equal(store.values[:, 0], [0] * 4 + [1] * 2 + [np.nan] * 3)


def test_a_missing_label_is_missing_and_no_class(tmp_path: Path) -> None:
    frame = labelled(["dog", None, "cat"])
    store = prepared(tmp_path, frame)
    assert store.columns.classes == ("cat", "dog")
    assert np.isnan(store.values[store.rows_of(1), 0]).all()
    assert store.report.nulls["label"] == 2


def test_sentinels_are_for_inputs_and_not_for_codes(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(["dog", "cat", "dog"]), sentinels=[0.0, 10.0])
    assert_array_equal(store.values[:, 0], [1] * 4 + [0] * 2 + [1] * 3)
    assert np.isnan(store.values[0, 1])


def test_rows_in_any_order_give_the_same_store(tmp_path: Path) -> None:
    frame = labelled(["dog", "cat", "emu"])
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = prepared(tmp_path / "one", frame)
    other = prepared(tmp_path / "two", frame.sample(fraction=1, shuffle=True, seed=1))
    assert_array_equal(one.values, other.values)


def test_a_store_that_grows_by_a_new_class_is_made_anew(tmp_path: Path) -> None:
    data = DataSettings(path="*.parquet", id="key", time="step", target=["label"], past=["x1"])
    data = data.for_task(TaskSettings(kind="classification"))
    frame = labelled(["dog", "cat", "dog"])
    frame.write_parquet(tmp_path / "0.parquet")
    assert prepare(data, tmp_path, tmp_path / "store").columns.classes == ("cat", "dog")
    more = labelled(["bee", "cat", "cat"]).with_columns(key=pl.col("key") + "2")
    more.write_parquet(tmp_path / "1.parquet")
    store = prepare(data, tmp_path, tmp_path / "store")
    assert store.columns.classes == ("bee", "cat", "dog")
    codes = [store.values[store.offsets[s], 0] for s in range(6)]
    assert dict(zip(store.keys, codes, strict=True)) == {
        "a": 2, "a2": 0, "b": 1, "b2": 1, "c": 2, "c2": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (labelled([0.5, 1.0, 2.0]), "holds fractions, so it is no label"),
        (labelled(["a", "a", "a"]), "only the label 'a', so there is nothing to tell apart"),
        (labelled([None, None, None]), "no label, so there is nothing"),
        (labelled(["a", "b", "c"], label=pl.col("step").cast(pl.Datetime)), "no labels"),
        (labelled(["a", "b", "c"]).drop("label"), "has no column 'label'"),
    ],
)
def test_what_is_no_label_is_refused(frame: pl.DataFrame, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        prepared(tmp_path, frame)


def test_a_column_of_many_values_is_no_label(tmp_path: Path) -> None:
    count = CLASSES_MAX + 1
    frame = pl.DataFrame({"key": "a", "step": range(count), "label": range(count), "x1": 0.0})
    with pytest.raises(DataError, match="has more than 4,096 labels"):
        prepared(tmp_path, frame, past=["x1"])


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1))
def test_a_number_is_the_same_label_in_every_form(numbers: list[int]) -> None:
    forms = [pl.Series(numbers), pl.Series(numbers, dtype=pl.Float64), pl.Series(map(str, numbers))]
    assert len({tuple(label_texts(form).to_list()) for form in forms}) == 1


# Regressions.


def test_several_responses_stand_before_the_inputs(tmp_path: Path) -> None:
    store = responses(tmp_path)
    assert store.columns.channels == ("r1", "r2", "x1", "x2")
    assert store.series_count == 3
    assert_array_equal(store.values[:, 0], store.values[:, 2] * 2)
    assert store.season == 1
    signature = store.signature(1, ())
    assert (signature.task, signature.targets) == ("regression", ("r1", "r2"))
    assert signature.channels == ("x1", "x2")  # what an observation of a stream has


def test_responses_are_capped_and_inputs_are_not(tmp_path: Path) -> None:
    store = responses(tmp_path, cap=30.0)
    assert store.values[:, :2].max() == 30
    assert store.values[:, 0].min() == 0
    assert store.values[:, 2].max() == 22
    assert store.signature(1, ()).cap == 30


def test_another_task_or_cap_makes_another_store(tmp_path: Path) -> None:
    first = responses(tmp_path, cap=30.0)
    second = responses(tmp_path, cap=20.0)
    assert first.fingerprint != second.fingerprint
    assert second.values[:, 0].max() == 20


# Signatures.


def test_a_signature_of_a_task_goes_through_json(tmp_path: Path) -> None:
    signature = responses(tmp_path, cap=30.0).signature(1, ())
    data = signature_to_json(signature)
    assert signature_from_json(data) == signature
    (tmp_path / "other").mkdir()
    other = prepared(tmp_path / "other", labelled(["a", "b", "a"])).signature(1, ())
    assert signature_from_json(signature_to_json(other)) == other
    assert other.classes == ("a", "b")
    with pytest.raises(ArtifactError, match="'guess' is no task"):
        signature_from_json(data | {"task": "guess"})


def test_the_signature_of_a_forecast_is_written_as_before(tmp_path: Path) -> None:
    frame = labelled(["a", "b", "c"])
    store = prepared(tmp_path, frame, "forecast", target="x1", past=["x2"])
    data = signature_to_json(store.signature(3, ()))
    assert not {"task", "classes", "more_targets", "cap"} & data.keys()
    assert signature_from_json(data).channels == ("x1", "x2")


# Data for a model that is there.


def test_data_without_labels_are_read_for_a_model(tmp_path: Path) -> None:
    frame = labelled(["dog", "cat", "dog"])
    signature = prepared(tmp_path, frame).signature(1, ())
    path = tmp_path / "new.parquet"
    frame.drop("label").write_parquet(path)
    store = store_for_model(signature, 1, str(path), tmp_path / "new")
    assert store.columns.classes == ("cat", "dog")
    assert np.isnan(store.values[:, 0]).all()
    assert_array_equal(store.values[:, 1], frame["x1"].to_numpy())
    labelled(["emu", "cat", "cat"]).write_parquet(path)  # codes are the model's
    store = store_for_model(signature, 1, str(path), tmp_path / "new")
    assert_array_equal(store.values[:, 0], [np.nan] * 4 + [0] * 5)
    frame.drop("x1").write_parquet(path)
    with pytest.raises(DataError, match="has no column 'x1'"):
        store_for_model(signature, 1, str(path), tmp_path / "new")
