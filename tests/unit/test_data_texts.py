from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.data.texts import Texts, column_of, read_names, series_of, write_names
from forecastd.series import Keys

VALUES = st.lists(st.none() | st.sampled_from(["", "b", "a", "ü"]), max_size=12)


@given(VALUES)
def test_texts_are_the_values_they_were_made_of(values: list[str | None]) -> None:
    texts = Texts.of(values)
    assert texts == values
    assert [texts[place] for place in range(len(values))] == values
    assert texts[1:] == values[1:]
    assert texts.take(np.arange(len(values))[::-1]) == values[::-1]
    assert texts.codes_in(["b"], -1).tolist() == [0 if v == "b" else -1 for v in values]


@given(VALUES, st.integers(0, 12))
def test_tidied_texts_are_the_same_whatever_they_were_cut_from(
    values: list[str | None], start: int
) -> None:
    tidied = Texts.of(values)[start:].tidied()
    assert tidied == values[start:]
    assert list(tidied.texts) == sorted({v for v in values[start:] if v is not None})


@given(st.lists(st.text(max_size=4)), st.integers(0, 5))
def test_keys_survive_the_way_through_a_frame(texts: list[str], start: int) -> None:
    keys = Keys.of(texts)[start:]
    assert series_of(keys).to_list() == texts[start:]
    assert column_of(series_of(keys)) == texts[start:]
    assert column_of(pl.Series(texts, dtype=pl.String)[start:]) == texts[start:]


@given(st.lists(st.text(max_size=4), min_size=1), st.integers(0, 5), VALUES)
def test_names_are_read_as_written(texts: list[str], start: int, values: list[str | None]) -> None:
    import tempfile

    keys = Keys.of(texts)[start:]
    static = {"place": Texts.of((values + [None] * len(keys))[: len(keys)])}
    with tempfile.TemporaryDirectory() as name:
        write_names(Path(name), keys, static)
        assert read_names(Path(name), {"place": list(static["place"].texts)}) == (keys, static)


def test_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_names(tmp_path, Keys.of(["a", "bc"]), {"place": Texts.of(["x", None])})
    with pytest.raises(ValueError, match="do not fit"):
        read_names(tmp_path, {})
    np.save(tmp_path / "key_offsets.npy", np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="do not fit"):
        read_names(tmp_path, {"place": ["x"]})
