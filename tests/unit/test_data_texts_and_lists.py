from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from answers import labelled, prepared
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from forecastd.config import DataSettings, TaskSettings
from forecastd.data.check import check
from forecastd.data.describe import describe_columns, extent_of_data
from forecastd.data.for_model import store_for_model
from forecastd.data.layouts import characters_of
from forecastd.errors import DataError


@given(st.lists(st.one_of(st.none(), st.text()), max_size=5))
def test_characters_are_code_points(texts: list[str | None]) -> None:
    expected = [[ord(letter) for letter in text or ""] for text in texts]
    assert characters_of(pl.Series("t", texts, pl.String)).to_list() == expected


@pytest.mark.shows("S109", "S115")
@pytest.mark.trap(36)
def test_each_character_of_a_text_is_a_step(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "key": ["p", "q", "r", "s"],
            "step": [1, 1, 1, 1],
            "text": ["xyx", "y", "", "é€"],
            "answer": ["Greater", "Less", "Equal", "Equal"],
        }
    )
    store = prepared(tmp_path, frame, target="answer", past=["text"])
    assert store.keys == ["p", "q", "s"]  # an empty text has no step
    assert store.values[:, 1].tolist() == [*map(ord, "xyx"), ord("y"), *map(ord, "é€")]
    assert store.columns.classes == ("Equal", "Greater", "Less")
    assert store.values[:, 0].tolist() == [1, 1, 1, 2, 0, 0]
    assert store.times.tolist() == [1, 2, 3, 1, 1, 2]
    assert str(store.frequency) == "1"
    settings = DataSettings(
        path="data.parquet", id="key", time="step", target=["answer"], past=["text"]
    ).for_task(TaskSettings(kind="classification"))
    assert extent_of_data(settings, tmp_path).lengths.tolist() == [3, 1, 2]
    assert describe_columns(settings, tmp_path)[2].name == "text"
    assert check(settings, tmp_path).findings == []  # one answer a series is as it should be


def test_texts_are_answered_by_numbers_too_and_read_for_a_model(tmp_path: Path) -> None:
    frame = pl.DataFrame({"key": ["1+2", "3+4"], "step": 1, "text": ["1+2", "3+4"], "sum": [3, 7]})
    store = prepared(tmp_path, frame, "regression", target="sum", past=["text"])
    assert store.values[:, 0].tolist() == [3] * 3 + [7] * 3
    path = tmp_path / "new.parquet"
    frame.drop("sum").write_parquet(path)
    found = store_for_model(store.signature(1, ()), 1, str(path), tmp_path / "new")
    assert_array_equal(found.values[:, 1], store.values[:, 1])


def test_lists_of_inputs_with_one_answer_or_an_answer_a_step(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"key": ["a", "b"], "step": [1, 1], "x1": [[1.0, 2.0], [3.0]], "x2": [[5.0, 6.0], [7.0]]}
    )
    one = prepared(tmp_path, frame.with_columns(label=pl.Series(["u", "v"])))
    assert one.values.tolist() == [[0, 1, 5], [0, 2, 6], [1, 3, 7]]
    each = prepared(tmp_path, frame.with_columns(label=pl.Series([["u", "v"], ["w"]])))
    assert each.values[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="list in 'label' is not as long as that in 'x1'"):
        prepared(tmp_path, frame.with_columns(label=pl.Series([["u"], ["w"]])))
    with pytest.raises(DataError, match="'x2' holds single values, but each row is a whole series"):
        prepared(tmp_path, frame.with_columns(x2=1.0, label=pl.Series(["u", "v"])))


def test_text_in_a_forecast_is_refused_as_before(tmp_path: Path) -> None:
    frame = labelled(["a", "b", "c"])
    with pytest.raises(DataError, match="'label' holds text, such as 'a'"):
        prepared(tmp_path, frame, "forecast", target="x1", past=["label"])


def test_clips_of_frames_have_labels(tmp_path: Path) -> None:
    shape, steps = (2, 3), 4
    pixels = np.arange(2 * steps * 6, dtype=np.float32).reshape(2 * steps, *shape)
    table = pa.table(
        {
            "key": ["a"] * steps + ["b"] * steps,
            "step": [*range(steps)] * 2,
            "frame": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels),
            "label": ["left"] * steps + ["right"] * steps,
        }
    )
    store = prepared(tmp_path, table, past=["frame"])
    assert store.values.shape == (2 * steps, 1 + 6)
    assert store.columns.frames == {"frame": [2, 3]}
    assert_array_equal(store.values[:, 1:], pixels.reshape(2 * steps, 6))
    assert_array_equal(store.values[:, 0], [0] * steps + [1] * steps)
    assert store.signature(1, ()).channels[0] == "frame[0]"


def test_stamps_that_jitter_lie_on_the_grid_that_is_set(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    first = datetime(2015, 2, 4, 17, 51)  # noqa: DTZ001
    seconds = 60 * np.arange(300) + dice.integers(-1, 2, 300)
    frame = pl.DataFrame(
        {
            "ds": [first + timedelta(seconds=int(s)) for s in seconds],
            "light": dice.normal(size=300),
            "room": dice.integers(0, 2, 300),
        }
    )
    how = {"id": None, "time": "ds", "target": "room", "past": ["light"], "freq": "1min"}
    store = prepared(tmp_path, frame, **how)
    assert (len(store.times), store.report.holes, store.report.resets) == (300, 0, 0)
    assert store.columns.classes == ("0", "1")


@pytest.mark.trap(19)
@pytest.mark.parametrize("side", ["begin", "end", "neither"])
def test_data_that_are_padded_already_are_told(side: str, tmp_path: Path) -> None:
    zeros = {
        "begin": pl.col("step") <= 2,
        "end": pl.col("step") > 2,
        "neither": pl.lit(value=False),
    }
    padding = (pl.col("key") == "a") & zeros[side]
    hidden = [pl.when(padding).then(0.0).otherwise(pl.col(x) + 1).alias(x) for x in ("x1", "x2")]
    labelled(["u", "v", "u"]).with_columns(hidden).write_parquet(tmp_path / "data.parquet")
    settings = DataSettings(
        path="data.parquet", id="key", time="step", target=["label"], past=["x1", "x2"]
    )
    found = check(settings.for_task(TaskSettings(kind="classification")), tmp_path).findings
    padded = [(one.count, one.series) for one in found if one.kind == "padded"]
    assert padded == ([] if side == "neither" else [(1, ["a"])])
