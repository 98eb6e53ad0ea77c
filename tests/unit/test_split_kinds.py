"""Splits by series, ranges and files, and gaps: nothing of a held-out part reaches the training."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import stored, waves
from pydantic import ValidationError

from forecastd.config import SplitSettings, TrainConfig, load
from forecastd.data.split import Parts, split
from forecastd.data.store import Store
from forecastd.errors import ConfigError, DataError

KEYS = [f"house {number}" for number in range(40)]
NAMES = ("train", "valid", "test")


def houses(folder: Path, keys: list[str] = KEYS, rows: int = 5, **settings: Any) -> Store:
    return stored(folder, waves(dict.fromkeys(keys, rows)), **settings)


def cut(store: Store, **given: Any) -> Parts:
    return split(store, SplitSettings.model_validate(given))


def rows_of(parts: Parts, name: str) -> list[list[int]]:
    begin, end = getattr(parts, f"{name}_begin"), getattr(parts, f"{name}_end")
    return [list(range(*pair)) for pair in zip(begin.tolist(), end.tolist(), strict=True)]


def series_of(store: Store, parts: Parts, name: str) -> list[str]:
    return [key for key, rows in zip(store.keys, rows_of(parts, name), strict=True) if rows]


# by time with a gap


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"valid": 10, "test": 20, "gap": 5}, [(0, 60), (65, 75), (80, 100)]),
        ({"valid": 10, "test": 20, "gap": "5h"}, [(0, 60), (65, 75), (80, 100)]),
        ({"valid": "10h", "test": 0.2, "gap": 5}, [(0, 60), (65, 75), (80, 100)]),
        ({"train": 60, "valid": 10, "test": 20, "gap": 5}, [(0, 60), (65, 75), (80, 100)]),
        ({"train": 0.6, "valid": "10h", "test": 20, "gap": "5h"}, [(0, 60), (65, 75), (80, 100)]),
        ({"valid": 0, "test": 20, "gap": 5}, [(0, 75), (75, 75), (80, 100)]),
        ({"valid": 10, "test": 0, "gap": 5}, [(0, 85), (90, 100), (100, 100)]),
    ],
)
def test_a_gap_lies_between_parts_in_steps_or_as_a_span(
    given: dict[str, Any], expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    parts = cut(stored(tmp_path, waves({"a": 100})), **given)
    found = [(getattr(parts, f"{n}_begin"), getattr(parts, f"{n}_end")) for n in NAMES]
    assert [(int(b[0]), int(e[0])) for b, e in found] == [
        pair if pair[0] < pair[1] else (int(b[0]), int(b[0]))
        for pair, (b, _) in zip(expected, found, strict=True)
    ]


def test_a_gap_holds_for_a_series_that_ended_just_before_the_cut(tmp_path: Path) -> None:
    store = stored(tmp_path, waves({"a": 100, "b": 78}))
    parts = cut(store, valid=0, test="20h", gap=5)
    assert parts.train_end.tolist() == [75, 175]


sizes = st.one_of(st.integers(0, 40), st.floats(0, 0.4), st.sampled_from(["1h", "10h", "1d"]))


@settings(max_examples=60)  # each writes a store durably
@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=4),
    firsts=st.lists(st.integers(0, 50), min_size=4, max_size=4),
    train=st.one_of(st.none(), sizes),
    valid=sizes,
    test=sizes,
    gap=st.one_of(st.integers(0, 20), st.sampled_from(["1h", "7h", "1d"])),
)
def test_parts_by_time_are_disjoint_in_order_and_as_far_apart_as_the_gap(
    lengths: list[int],
    firsts: list[int],
    train: float | str | None,
    valid: float | str,
    test: float | str,
    gap: int | str,
    tmp_path_factory: Any,
) -> None:
    frames = [waves({f"s{s}": length}, first_hour=firsts[s]) for s, length in enumerate(lengths)]
    store = stored(tmp_path_factory.mktemp("gap"), pl.concat(frames))
    try:
        parts = cut(store, train=train, valid=valid, test=test, gap=gap)
    except DataError as error:
        if "left to train on" not in error.message:
            raise
        return
    hours = {"1h": 1, "7h": 7, "1d": 24}.get(str(gap), gap)
    begins = [getattr(parts, f"{name}_begin") for name in NAMES]
    ends = [getattr(parts, f"{name}_end") for name in NAMES]
    assert all((begin <= end).all() for begin, end in zip(begins, ends, strict=True))
    assert (begins[0] >= store.offsets[:-1]).all()
    assert (ends[2] <= store.offsets[1:]).all()
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        both = (begins[earlier] < ends[earlier]) & (begins[later] < ends[later])
        assert (begins[later] - ends[earlier] >= hours)[both].all()


# by series


def test_shares_of_series_are_stable_when_series_come_and_go(tmp_path: Path) -> None:
    given = {"by": "series", "valid": 0.2, "test": 0.3}
    store = houses(tmp_path)
    parts = cut(store, **given)
    found = {name: series_of(store, parts, name) for name in NAMES}
    assert sorted(key for keys in found.values() for key in keys) == sorted(KEYS)
    assert all(len(keys) >= 3 for keys in found.values())
    more = houses(tmp_path, [*KEYS[::2], "house 99", "new"], name="more")
    again = cut(more, **given)
    for name in NAMES:
        kept = [key for key in found[name] if key in more.keys]
        assert set(kept) <= set(series_of(more, again, name))
    other = cut(store, **given, seed=1)
    assert series_of(store, other, "test") != found["test"]


@settings(max_examples=40)
@given(
    train=st.one_of(st.none(), st.floats(0, 0.4)),
    valid=st.floats(0, 0.3),
    test=st.floats(0, 0.3),
    seed=st.integers(0, 1000),
)
def test_every_series_is_in_one_part_as_a_whole(
    train: float | None, valid: float, test: float, seed: int, houses_of_all: Store
) -> None:
    store = houses_of_all
    given = {"by": "series", "train": train, "valid": valid, "test": test, "seed": seed}
    parts = split(store, SplitSettings.model_validate(given), scoring=True)
    rows = np.concatenate([np.concatenate(rows_of(parts, n)).astype(int) for n in NAMES])
    assert len(np.unique(rows)) == len(rows)
    if train is None:
        assert sorted(rows.tolist()) == list(range(len(store.times)))
    for name in NAMES:
        assert {len(rows) for rows in rows_of(parts, name)} <= {0, 5}


@pytest.fixture(scope="module")
def houses_of_all(tmp_path_factory: Any) -> Store:
    return houses(tmp_path_factory.mktemp("houses"))


def test_lists_name_series_and_a_share_draws_among_the_rest(houses_of_all: Store) -> None:
    store = houses_of_all
    parts = cut(store, by="series", valid=0.2, test=["house 3", "house 5"])
    assert series_of(store, parts, "test") == ["house 3", "house 5"]
    drawn = series_of(store, parts, "valid")
    assert drawn == [key for key in series_of(store, cut(store, by="series", test=0.2,
                     valid=0), "test") if key not in {"house 3", "house 5"}]  # fmt: skip
    only = cut(store, by="series", train=["house 1"], valid="house 2", test=0)
    assert [series_of(store, only, name) for name in NAMES] == [["house 1"], ["house 2"], []]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"test": ["house 77"]}, r"'house 77' in split\.test is no series .did you mean"),
        ({"valid": 0.0001, "test": 0}, r"split\.valid = 0\.0001 draws none of 40 series"),
        ({"valid": KEYS[:20], "test": KEYS[20:]}, "no row of 200 is left to train on"),
    ],
)
def test_what_the_series_do_not_have_is_said(
    given: dict[str, Any], words: str, houses_of_all: Store
) -> None:
    with pytest.raises(DataError, match=words) as error:
        cut(houses_of_all, by="series", **given)
    assert error.value.hint


# by ranges


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"train": [0, 60], "valid": [65, 75], "test": [80]}, [(0, 60), (65, 75), (80, 100)]),
        ({"valid": [65, 75], "test": [-20]}, [(0, 65), (65, 75), (80, 100)]),
        ({"valid": [-40, -30], "test": [-20, -10]}, [(0, 60), (60, 70), (80, 90)]),
        (
            {"train": ["2013-01-01", "2013-01-02"], "valid": ["2013-01-02T12:00", "2013-01-03"]},
            [(0, 24), (36, 48), (48, 48)],
        ),
        ({"test": [date(2013, 1, 4), date(2013, 2, 1)]}, [(0, 72), (72, 72), (72, 100)]),
        ({"train": [50, 60], "test": ["2013-01-04T00:00:00Z"]}, [(50, 60), (60, 60), (72, 100)]),
    ],
)
def test_ranges_are_positions_or_times(
    given: dict[str, Any], expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    parts = cut(stored(tmp_path, waves({"a": 100})), by="ranges", **given)
    found = [(getattr(parts, f"{n}_begin"), getattr(parts, f"{n}_end")) for n in NAMES]
    assert [(int(b[0]), int(e[0])) for b, e in found] == expected


def test_ranges_of_short_series_are_cut_and_never_overlap(tmp_path: Path) -> None:
    store = stored(tmp_path, waves({"a": 100, "b": 30}))
    parts = cut(store, by="ranges", train=[0, 50], valid=[50, 60], test=[60])
    assert [len(rows) for name in NAMES for rows in rows_of(parts, name)] == [50, 30, 10, 0, 40, 0]
    with pytest.raises(DataError, match="train and test overlap in 'b', of 30 rows"):
        cut(store, by="ranges", train=[0, 50], test=[-10])


def test_counted_time_takes_counts_in_quotes(tmp_path: Path) -> None:
    frame = waves({"a": 100}).with_columns(ds=pl.int_range(1000, 1100))
    store = stored(tmp_path, frame, freq="1")
    parts = cut(store, by="ranges", train=["1000", "1050"], test=["1080"])
    assert (int(parts.train_end[0]), int(parts.test_begin[0])) == (50, 80)
    with pytest.raises(DataError, match=r"split\.test holds '2013-01-01', but the data counts"):
        cut(store, by="ranges", test=["2013-01-01"])


# what the settings alone show


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("valid = [1, 2]", "valid is a list"),
        ('gap = "soon"', "gap = 'soon' is no span of time"),
        ('gap = "30"', "gap = '30' is no span of time"),
        ('by = "series"\ngap = 3', """gap = 3 needs by = "time\""""),
        ('by = "series"\nvalid = 3', "valid = 3 is a number of series"),
        ('by = "series"\nvalid = 0.6\ntest = 0.6', "add up to 1.2"),
        ('by = "series"\nvalid = ["a"]\ntest = ["b", "a"]', "'a' is listed in valid and in test"),
        ('by = "series"\nvalid = []', "valid is empty"),
        ('by = "series"\ncolumn = "fold"\nvalid = 0.1', "column asks for values"),
        ('by = "series"\ncolumn = "ds"\nvalid = "1"', "is data.time already"),
        ('column = "fold"', 'needs by = "series"'),
        ('by = "ranges"', "needs a range"),
        ('by = "ranges"\ntest = 0.1', "test = 0.1 is no range"),
        ('by = "ranges"\ntest = [5, "2013-01-01"]', "mixes rows and times"),
        ('by = "ranges"\ntest = ["soon"]', "'soon', which is no stamp"),
        ('by = "ranges"\ntest = [9, 5]', "its end before its beginning"),
        ('by = "ranges"\ntrain = [0, 50]\nvalid = [40, 60]', "train and valid overlap"),
        ('by = "ranges"\nvalid = [40]\ntest = [60]', "valid has no end"),
        ("by = 'ranges'\ntrain = [2013-01-01, 2014-01-01]\ntest = [2013-06-01]", "overlap"),
        ('by = "files"', "are both missing"),
        ('by = "files"\nvalid = 0.1', "valid = 0.1 is no path"),
        ('by = "files"\nvalid = "a.csv"\ntest = "a.csv"', "are the same"),
        ('by = "files"\ntrain = "b.csv"\ntest = "a.csv"', "leave split.train out"),
        ('by = "files"\ntest = "x.parquet"', "split.test is data.path itself"),
        ('by = "moon"', "'time', 'series', 'ranges' or 'files'"),
    ],
)
def test_settings_that_contradict_each_other_are_one_sentence(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(f'[data]\npath = "x.parquet"\n[split]\n{text}\n')
    with pytest.raises(ConfigError) as error:
        load(TrainConfig, path, environment={})
    [problem] = error.value.problems
    assert "split" in problem
    assert words in problem


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "split by time: valid 0.1, test 0.1; the rows before train"),
        ({"gap": "1d", "train": 0.5}, "split by time: train 0.5, valid 0.1, test 0.1, gap 1d"),
        (
            {"by": "series", "column": "fold", "test": ["3"]},
            "split by series by the values of 'fold': test ['3']; all other series train",
        ),
        ({"by": "files", "test": "t.csv"}, "split by files: test t.csv; data.path trains"),
        ({"valid": 0, "test": 0}, "split by time: no part is held out; the rows before train"),
    ],
)
def test_a_split_is_said_in_a_line(given: dict[str, Any], words: str) -> None:
    assert SplitSettings.model_validate(given).words() == words


def test_settings_survive_the_artifact(tmp_path: Path) -> None:
    for one in (
        {"by": "ranges", "test": [date(2013, 1, 4), date(2013, 2, 1)]},
        {"by": "series", "column": "fold", "test": ["1"]},
        {"by": "files", "test": "test.parquet"},
        {"gap": "1d"},
    ):
        made = SplitSettings.model_validate(one)
        assert SplitSettings.model_validate(made.model_dump()) == made
    with pytest.raises(ValidationError):
        SplitSettings.model_validate({"gap": -1})
