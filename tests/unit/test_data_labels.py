from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pyarrow import parquet

from forecastd.artifact import signature_from_json, signature_to_json
from forecastd.config import DataSettings, TaskSettings, TrainConfig, load
from forecastd.data.describe import describe_columns, extent_of_data
from forecastd.data.for_model import store_for_model
from forecastd.data.labels import CLASSES_MAX, label_texts
from forecastd.data.lanes import Shape, pieces_of, sweep_plan, walk
from forecastd.data.layouts import characters_of
from forecastd.data.sequences import Batching, sequence_plan, sequence_walk
from forecastd.data.store import Store, open_store, prepare
from forecastd.errors import ArtifactError, ConfigError, DataError
from forecastd.features.spec import FeatureSpec
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.network.walker import Walker

STEPS = {"a": 4, "b": 2, "c": 3}


def labelled(labels: Any, **columns: Any) -> pl.DataFrame:
    """Three series of counted steps with two inputs and a label for each."""
    parts = [
        pl.DataFrame(
            {
                "key": [key] * steps,
                "step": np.arange(1, steps + 1),
                "x1": np.arange(steps) + 10.0 * place,
                "x2": -np.arange(steps) - 10.0 * place,
                "label": pl.Series([labels[place]] * steps),
            }
        )
        for place, (key, steps) in enumerate(STEPS.items())
    ]
    return pl.concat(parts).with_columns(**columns)


def made(
    folder: Path,
    frame: pl.DataFrame | pa.Table,
    kind: Any = "classification",
    **given_settings: Any,
) -> Store:
    settings = {"id": "key", "time": "step", "target": "label", "past": ["x1", "x2"]}
    task = {"kind": kind}
    for name in ("classes", "cap"):
        if name in given_settings:
            task[name] = given_settings.pop(name)
    write = parquet.write_table if isinstance(frame, pa.Table) else pl.DataFrame.write_parquet
    write(frame, folder / "data.parquet")
    data = DataSettings.model_validate({"path": "data.parquet", **settings, **given_settings})
    return prepare(data.for_task(TaskSettings.model_validate(task)), folder, folder / "store")


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
    store = made(tmp_path, labelled(labels))
    assert store.columns.classes == classes
    assert store.columns.channels == ("label", "x1", "x2")
    texts = label_texts(pl.Series(labels)).to_list()
    for series, text in enumerate(texts):
        codes = store.values[store.rows_of(series), 0]
        assert set(codes.tolist()) == {float(classes.index(str(text)))}
    assert open_store(store.folder).columns == store.columns


def test_categories_are_labels(tmp_path: Path) -> None:
    frame = labelled(["b", "a", "b"]).cast({"label": pl.Categorical})
    assert made(tmp_path, frame).columns.classes == ("a", "b")


def test_named_classes_keep_their_order_and_others_are_missing(tmp_path: Path) -> None:
    store = made(tmp_path, labelled(["dog", "cat", "emu"]), classes=["dog", "cat"])
    assert store.columns.classes == ("dog", "cat")
    assert_array_equal(store.values[:, 0], [0] * 4 + [1] * 2 + [np.nan] * 3)


def test_a_missing_label_is_missing_and_no_class(tmp_path: Path) -> None:
    frame = labelled(["dog", None, "cat"])
    store = made(tmp_path, frame)
    assert store.columns.classes == ("cat", "dog")
    assert np.isnan(store.values[store.rows_of(1), 0]).all()
    assert store.report.nulls["label"] == 2


def test_sentinels_are_for_inputs_and_not_for_codes(tmp_path: Path) -> None:
    store = made(tmp_path, labelled(["dog", "cat", "dog"]), sentinels=[0.0, 10.0])
    assert_array_equal(store.values[:, 0], [1] * 4 + [0] * 2 + [1] * 3)
    assert np.isnan(store.values[0, 1])


def test_rows_in_any_order_give_the_same_store(tmp_path: Path) -> None:
    frame = labelled(["dog", "cat", "emu"])
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = made(tmp_path / "one", frame)
    other = made(tmp_path / "two", frame.sample(fraction=1, shuffle=True, seed=1))
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
        made(tmp_path, frame)


def test_a_column_of_many_values_is_no_label(tmp_path: Path) -> None:
    count = CLASSES_MAX + 1
    frame = pl.DataFrame({"key": "a", "step": range(count), "label": range(count), "x1": 0.0})
    with pytest.raises(DataError, match="has more than 4,096 labels"):
        made(tmp_path, frame, past=["x1"])


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1))
def test_a_number_is_the_same_label_in_every_form(numbers: list[int]) -> None:
    forms = [pl.Series(numbers), pl.Series(numbers, dtype=pl.Float64), pl.Series(map(str, numbers))]
    assert len({tuple(label_texts(form).to_list()) for form in forms}) == 1


# Regressions.


def responses(tmp_path: Path, **settings: Any) -> Store:
    frame = labelled(["a", "b", "c"], r1=pl.col("x1") * 2, r2=pl.col("x1") + 100)
    return made(tmp_path, frame, "regression", target=["r1", "r2"], **settings)


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
    other = made(tmp_path / "other", labelled(["a", "b", "a"])).signature(1, ())
    assert signature_from_json(signature_to_json(other)) == other
    assert other.classes == ("a", "b")
    with pytest.raises(ArtifactError, match="the task is 'guess'"):
        signature_from_json(data | {"task": "guess"})


def test_the_signature_of_a_forecast_is_written_as_before(tmp_path: Path) -> None:
    frame = labelled(["a", "b", "c"])
    store = made(tmp_path, frame, "forecast", target="x1", past=["x2"])
    data = signature_to_json(store.signature(3, ()))
    assert not {"task", "classes", "more_targets", "cap"} & data.keys()
    assert signature_from_json(data).channels == ("x1", "x2")


# Data for a model that is there.


def test_data_without_labels_are_read_for_a_model(tmp_path: Path) -> None:
    frame = labelled(["dog", "cat", "dog"])
    signature = made(tmp_path, frame).signature(1, ())
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


# Settings.


def test_a_config_tells_its_data_what_the_target_is_for(tmp_path: Path) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(
        '[data]\npath = "d.parquet"\nid = "key"\ntarget = ["r1", "r2"]\npast = ["x1"]\n'
        '[task]\nkind = "regression"\n'
    )
    config = load(TrainConfig, path, environment={}).settings
    assert config.data.task.kind == "regression"
    assert not config.data.wide
    again = TrainConfig.model_validate(config.model_dump())
    assert (again, again.data.task) == (config, config.task)
    assert again.data.model_copy(update={"path": "other"}).task.kind == "regression"


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ('kind = "regression"', "", "a regression needs inputs; name their columns in past"),
        (
            'kind = "classification"',
            'past = ["x"]\ntarget = ["a", "b"]',
            "a classification has one target, the label",
        ),
        ('classes = ["a", "b"]', "", "classes is for kind = \"classification\", not 'forecast'"),
        ('kind = "classification"\ncap = 3.0', 'past = ["x"]', 'cap is for kind = "regression"'),
        ('kind = "classification"\nclasses = ["a", "a"]', 'past = ["x"]', "'a' is named twice"),
        (
            'kind = "classification"\nclass_weights = [1.0, 2.0]',
            'past = ["x"]',
            "class_weights needs classes, and a weight for each",
        ),
        ("", 'id = "k"\ntarget = ["a", "b"]', "several targets need a wide frame without id"),
        ("", 'target = ["a", "b"]\npast = ["x"]', "a wide frame takes no past or static"),
    ],
)
def test_what_does_not_fit_a_task_is_refused(
    task: str, data: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(f'[data]\npath = "d.parquet"\n{data}\n[task]\n{task}\n')
    with pytest.raises(ConfigError) as raised:
        load(TrainConfig, path, environment={})
    assert words in str(raised.value)


def test_labels_in_a_config_may_be_numbers_or_truth_values() -> None:
    task = {"kind": "classification", "classes": [1, 0]}
    assert TaskSettings.model_validate(task).classes == ["1", "0"]
    task["classes"] = [True, False]
    assert TaskSettings.model_validate(task).classes == ["true", "false"]


# Text and lists: a series a row.


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
    store = made(tmp_path, frame, target="answer", past=["text"])
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


def test_texts_are_answered_by_numbers_too_and_read_for_a_model(tmp_path: Path) -> None:
    frame = pl.DataFrame({"key": ["1+2", "3+4"], "step": 1, "text": ["1+2", "3+4"], "sum": [3, 7]})
    store = made(tmp_path, frame, "regression", target="sum", past=["text"])
    assert store.values[:, 0].tolist() == [3] * 3 + [7] * 3
    path = tmp_path / "new.parquet"
    frame.drop("sum").write_parquet(path)
    found = store_for_model(store.signature(1, ()), 1, str(path), tmp_path / "new")
    assert_array_equal(found.values[:, 1], store.values[:, 1])


def test_lists_of_inputs_with_one_answer_or_an_answer_a_step(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"key": ["a", "b"], "step": [1, 1], "x1": [[1.0, 2.0], [3.0]], "x2": [[5.0, 6.0], [7.0]]}
    )
    one = made(tmp_path, frame.with_columns(label=pl.Series(["u", "v"])))
    assert one.values.tolist() == [[0, 1, 5], [0, 2, 6], [1, 3, 7]]
    each = made(tmp_path, frame.with_columns(label=pl.Series([["u", "v"], ["w"]])))
    assert each.values[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="list in 'label' is not as long as that in 'x1'"):
        made(tmp_path, frame.with_columns(label=pl.Series([["u"], ["w"]])))
    with pytest.raises(DataError, match="'x2' holds single values, but each row is a whole series"):
        made(tmp_path, frame.with_columns(x2=1.0, label=pl.Series(["u", "v"])))


def test_text_in_a_forecast_is_refused_as_before(tmp_path: Path) -> None:
    frame = labelled(["a", "b", "c"])
    with pytest.raises(DataError, match="'label' holds text, such as 'a'"):
        made(tmp_path, frame, "forecast", target="x1", past=["label"])


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
    store = made(tmp_path, table, past=["frame"])
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
    store = made(tmp_path, frame, **how)
    assert (len(store.times), store.report.holes, store.report.resets) == (300, 0, 0)
    assert store.columns.classes == ("0", "1")


# What a walk gives to learn from.


def walker(store: Store, output: str = "sequence") -> Walker:
    torch.manual_seed(0)
    layer = LayerSpec("lstm", "lstm", {"hidden": 3, "output": output})
    features = FeatureSpec(2, (), 12.0, 0, 0, ())
    network = ForecastNetwork(NetworkSpec(features, (layer,), HeadSpec("point", 1)))
    network.head.supervised = True  # type: ignore[misc]

    def clocks(times: np.ndarray) -> np.ndarray:
        return np.zeros((*times.shape, 0), np.float32)

    return Walker(network, clocks, np.zeros((store.series_count, 0), np.int32))


def test_targets_are_the_answers_at_the_very_steps(tmp_path: Path) -> None:
    store = responses(tmp_path)
    moving, ends = walker(store), store.offsets[1:]
    pieces = pieces_of(store, store.offsets[:-1], ends, ends)
    (chunk,) = walk(store, sweep_plan(pieces, 3), Shape(4, 1, 0))
    at = np.array([0, 2])
    targets = moving.targets(chunk, at).numpy()
    assert targets.shape == (3, 2, 2)
    assert_array_equal(targets, chunk.values[:, at, :2])
    assert_array_equal(moving.counted(chunk, at), at < chunk.length[:, None])


def test_answers_are_no_inputs(tmp_path: Path) -> None:
    store = responses(tmp_path)
    plan = sequence_plan(_whole(store), Batching(3))
    (chunk,) = sequence_walk(store, plan, Shape(0, 1, 0))
    hidden = chunk._replace(values=chunk.values.copy())
    hidden.values[..., :2] = 1e6
    with torch.inference_mode():
        one, other = (walker(store).unroll(each).unscaled() for each in (chunk, hidden))
    assert_array_equal(one[0], other[0])


@pytest.mark.shows("S6")
def test_a_sequence_has_one_label_at_its_true_end(tmp_path: Path) -> None:
    store = made(tmp_path, labelled(["dog", "cat", "emu"]))
    moving = walker(store, "last")
    plan = sequence_plan(_whole(store), Batching(3, 2))
    first, second = sequence_walk(store, plan, Shape(0, 1, 0))
    at = np.arange(2)
    assert_array_equal(moving.targets(first, at)[:, 0, 0], [np.nan, 0, np.nan])
    assert_array_equal(moving.targets(second, at)[:, 0, 0], [1, np.nan, 2])
    assert moving.counted(first, at).tolist() == [[False], [True], [False]]


def _whole(store: Store) -> Any:
    ends = store.offsets[1:]
    return pieces_of(store, store.offsets[:-1], ends, ends)


def test_a_model_of_a_task_is_compared_with_its_columns(tmp_path: Path) -> None:
    store = responses(tmp_path)
    assert replace(store.columns, task="forecast").inputs == store.columns.channels
    assert store.columns.inputs == ("x1", "x2")
