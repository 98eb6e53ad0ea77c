"""What the made-up data of the examples are: what their names say, and the same each time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pyarrow as pa
import pytest


def _made_up() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "examples" / "made_up.py"
    spec = importlib.util.spec_from_file_location("made_up", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["made_up"] = module
    spec.loader.exec_module(module)
    return module


made_up = _made_up()


def frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


@pytest.mark.shows("S122")
def test_letters_are_all_510_strings() -> None:
    found = frame(made_up.letters()["all"])
    assert found["text"].n_unique() == found.height == 510
    counts = dict(found["answer"].value_counts().iter_rows())
    assert counts == {"Less": 206, "Greater": 206, "Equal": 98}
    x, y = (pl.col("text").str.count_matches(letter) for letter in "xy")
    more = found.filter(x > y)["answer"].unique().to_list()
    assert more == ["Greater"]
    assert found["text"].str.len_chars().max() == 8


@pytest.mark.shows("S121")
def test_sums_are_sums_and_no_pair_is_in_both_parts() -> None:
    tables = made_up.additions()
    train, test = frame(tables["train"]), frame(tables["test"])
    for part in (train, test):
        numbers = part["text"].str.split("+").list.eval(pl.element().cast(pl.Int64))
        assert (numbers.list.sum() == part["sum"]).all()
        assert (part["text"].str.len_chars() == 5).all()
    assert not set(train["text"]) & set(test["text"])
    assert train.height + test.height == 8100


def test_waves_have_their_frequency_and_the_next_value() -> None:
    tables = made_up.waveforms(20)
    both = pl.concat([frame(tables["train"]), frame(tables["test"])])
    assert both["unique_id"].n_unique() == 20
    assert both["kind"].n_unique() == 4
    for wave in both.partition_by("unique_id"):
        assert 100 <= wave.height <= 200
        for channel in (1, 2, 3):
            assert wave["x1"][1:].to_list() == wave["next_1"][:-1].to_list()
            values = wave[f"x{channel}"].to_numpy()
            power = np.abs(np.fft.rfft(values - values.mean(), 4096)) ** 2
            turns = 100 * np.argmax(power) / 4096
            assert turns == pytest.approx(wave["frequency"][0], abs=0.6)


@pytest.mark.shows("S5")
def test_shapes_move_as_their_label_says() -> None:
    table = made_up.moving_shapes(40)["train"]
    clips = table["frame"].combine_chunks().storage.flatten().to_numpy().reshape(-1, 28, 28)
    labels, keys = np.array(table["label"]), np.array(table["unique_id"])
    for key in np.unique(keys):
        own = clips[keys == key]
        shape, motion = labels[keys == key][0].split()
        where = [np.argwhere(image > 0.5).mean(0) for image in own]
        moved = np.sign(np.round((where[-1] - where[0]) / (len(own) - 1))).astype(int)
        assert tuple(moved) == made_up.MOTIONS[motion]
        assert int((own[0] > 0.5).sum()) == {"square": 25, "cross": 9}[shape]
    assert len(set(labels)) == 10


@pytest.mark.parametrize("name", ["letters", "additions", "waveforms", "moving_shapes"])
def test_the_same_data_each_time(name: str) -> None:
    maker, counted = made_up.MAKERS[name], {"waveforms": [12], "moving_shapes": [20]}
    one, other = (maker(*counted.get(name, [])) for _ in range(2))
    assert one.keys() == other.keys()
    assert all(one[part].equals(other[part]) for part in one)


def test_files_are_written_once(tmp_path: Path) -> None:
    made_up.write("letters", tmp_path)
    path = tmp_path / "letters_all.parquet"
    first = path.stat().st_mtime_ns
    made_up.write("letters", tmp_path)
    assert path.stat().st_mtime_ns == first
    assert pl.read_parquet(path).height == 510
