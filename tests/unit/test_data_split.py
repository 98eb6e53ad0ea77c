from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastd.config import DataSettings, SplitSettings
from forecastd.data.split import Parts, split
from forecastd.data.store import Store, prepare
from forecastd.errors import DataError

HOUR = 3_600_000_000


def store_of(
    folder: Path, lengths: list[int], starts: list[int], *, counted: bool = False
) -> Store:
    keys = [f"s{s:03}" for s, length in enumerate(lengths) for _ in range(length)]
    steps = np.concatenate([np.arange(n) + at for n, at in zip(lengths, starts, strict=True)])
    column = pl.Series("ds", steps if counted else steps * HOUR)
    column = column if counted else column.cast(pl.Datetime("us"))
    frame = pl.DataFrame({"unique_id": keys, "ds": column, "y": np.arange(len(keys)) * 1.0})
    frame.write_parquet(folder / "data.parquet")
    freq = "1" if counted else "1h"
    data = DataSettings(path="data.parquet", id="unique_id", freq=freq, season=1)
    return prepare(data, folder, folder / "store")


def lengths_of(store: Store, parts: Parts) -> list[list[int]]:
    """Return rows of train, valid and test of each series."""
    edges = [store.offsets[:-1], parts.train_end, parts.valid_end, parts.test_end]
    return np.diff(np.stack(edges, axis=1), axis=1).tolist()


def cut(store: Store, **settings: Any) -> list[list[int]]:
    return lengths_of(store, split(store, SplitSettings.model_validate(settings)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"valid": 10, "test": 20}, [70, 10, 20]),
        ({"valid": 0.1, "test": 0.2}, [70, 10, 20]),
        ({"valid": "10h", "test": "20h"}, [70, 10, 20]),
        ({"valid": 10, "test": "20h"}, [70, 10, 20]),
        ({"valid": "1d", "test": 20}, [56, 24, 20]),
        ({"valid": 0, "test": 0.0}, [100, 0, 0]),
        ({"train": 60, "valid": 10, "test": 20}, [60, 10, 20]),
        ({"train": 0.6, "valid": "10h", "test": 20}, [60, 10, 20]),
        ({"train": 60, "valid": 0.1, "test": "20h"}, [60, 10, 20]),
        ({"train": 95, "valid": 10, "test": 20}, [95, 5, 0]),
    ],
)
def test_rows_shares_and_spans_of_one_series(
    settings: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    assert cut(store_of(tmp_path, [100], [0]), **settings) == [expected]


def test_shares_and_spans_cut_all_series_at_one_moment(tmp_path: Path) -> None:
    store = store_of(tmp_path, [100, 50, 40], [0, 50, 0])
    assert cut(store, valid=0.1, test="20h") == [[70, 10, 20], [20, 10, 20], [40, 0, 0]]
    assert cut(store, train="60h", valid="10h", test=0.2) == [
        [60, 10, 20],
        [10, 10, 20],
        [40, 0, 0],
    ]


def test_rows_are_counted_in_each_series(tmp_path: Path) -> None:
    store = store_of(tmp_path, [100, 50, 12], [0, 50, 0])
    parts = split(store, SplitSettings(valid=10, test=20))
    assert lengths_of(store, parts) == [[70, 10, 20], [20, 10, 20], [0, 0, 12]]
    assert parts.untrained == 1


def test_the_usual_split_of_a_wide_benchmark(tmp_path: Path) -> None:
    store = store_of(tmp_path, [17420] * 2, [0, 0])
    assert cut(store, train=8640, valid=2880, test=2880) == [[8640, 2880, 2880]] * 2


sizes = st.one_of(
    st.integers(0, 60), st.floats(0, 0.6), st.sampled_from(["1h", "10h", "1d", "2d", "1mo"])
)


@settings(max_examples=40)  # each writes a store durably
@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=4),
    starts=st.lists(st.integers(0, 50), min_size=4, max_size=4),
    train=st.one_of(st.none(), sizes),
    valid=sizes,
    test=sizes,
)
def test_parts_follow_one_another_and_never_overlap(
    lengths: list[int],
    starts: list[int],
    train: float | str | None,
    valid: float | str,
    test: float | str,
    tmp_path_factory: Any,
) -> None:
    store = store_of(tmp_path_factory.mktemp("split"), lengths, starts[: len(lengths)])
    settings = SplitSettings.model_validate({"train": train, "valid": valid, "test": test})
    try:
        parts = split(store, settings)
    except DataError as error:
        if "left to train on" not in error.message:
            raise
        return
    first, end = store.offsets[:-1], store.offsets[1:]
    for earlier, later in (
        (first, parts.train_end),
        (parts.train_end, parts.valid_end),
        (parts.valid_end, parts.test_end),
        (parts.test_end, end),
    ):
        assert (earlier <= later).all()
    if train is None:
        assert np.array_equal(parts.test_end, end)
    assert parts.untrained == int((parts.train_end == first).sum()) < len(lengths)


def test_counted_time_takes_rows_and_shares_but_no_span(tmp_path: Path) -> None:
    store = store_of(tmp_path, [100], [7], counted=True)
    assert cut(store, valid=0.1, test=20) == [[70, 10, 20]]
    with pytest.raises(DataError, match=r"'30d' .* but the data counts steps"):
        split(store, SplitSettings(valid="30d"))


@pytest.mark.parametrize("text", ["30", "30 apples", "soon"])
def test_a_part_that_is_no_span_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a frequency|has no unit"):
        split(store_of(tmp_path, [50], [0]), SplitSettings(test=text))


@pytest.mark.parametrize("settings", [{"test": 50}, {"test": "50h"}, {"train": 0}])
def test_nothing_left_to_train_on_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row of 50 is left"):
        split(store_of(tmp_path, [50], [0]), SplitSettings.model_validate(settings))


def test_spans_of_months_follow_the_calendar(tmp_path: Path) -> None:
    months = pl.datetime_range(pl.datetime(1949, 1, 1), pl.datetime(1960, 12, 1), "1mo", eager=True)
    frame = pl.DataFrame({"ds": months, "y": np.arange(144.0)})
    frame.write_parquet(tmp_path / "months.parquet")
    store = prepare(DataSettings(path="months.parquet"), tmp_path, tmp_path / "store")
    assert cut(store, valid="1y", test="2y") == [[108, 12, 24]]
