from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyarrow import dataset, parquet

from forecastd.config import DataSettings
from forecastd.data.table import long_batches
from forecastd.data.where import as_arrow, as_polars, columns_in, conjuncts, parse
from forecastd.errors import DataError

FRAME = pl.DataFrame(
    {
        "ds": [datetime(2015, month, 1) for month in range(1, 9)],  # noqa: DTZ001
        "day": [date(2015, month, 1) for month in range(1, 9)],
        "n": [1, 2, 3, 4, 5, 6, None, 8],
        "region": ["eu", "eu", "uk", "uk", "us", None, "o'x", "eu"],
        "kind": pl.Series(["a", "b"] * 4, dtype=pl.Categorical),
        "open": [True, False] * 4,
        "odd name": [0.5] * 4 + [-1.5] * 4,
    }
)
CASES = {
    "n > 3": [4, 5, 6, 8],
    "n >= 3 and n<5": [3, 4],
    "n = 1 or n == 2": [1, 2],
    "n != 1 AND n <> 2 and not n > 5": [3, 4, 5],
    "n is null": [None],
    "n is not null and not (n < 8)": [8],
    "n in (1, 3, 99)": [1, 3],
    "region == 'eu'": [1, 2, 8],
    "region in ('uk', 'o''x')": [3, 4, None],
    "not region = 'eu'": [3, 4, 5, None],
    "region is null": [6],
    "kind = 'a' and open = true": [1, 3, 5, None],
    "open = false": [2, 4, 6, 8],
    '"odd name" < -1 and n < 6': [5],
    "`odd name` > 4e-1": [1, 2, 3, 4],
    "ds >= '2015-03-01' and ds < '2015-05-01T00:00:00'": [3, 4],
    "ds = '2015-03-01T02:00:00+02:00'": [3],
    "day > '2015-06-01'": [None, 8],
    "n > 1 and (n < 3 or n > 5) or n = 1": [1, 2, 6, 8],
}


@pytest.mark.parametrize("text", CASES)
def test_rows_that_a_predicate_keeps(text: str) -> None:
    kept = FRAME.filter(as_polars(parse(text), FRAME.schema))
    assert kept["n"].to_list() == CASES[text]


@pytest.mark.parametrize("text", [text for text in CASES if "kind" not in text])
def test_pyarrow_keeps_the_same_rows(text: str, tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "data.parquet")
    schema = parquet.read_schema(tmp_path / "data.parquet")
    condition = as_arrow(parse(text), schema, FRAME.schema)
    table = dataset.dataset(tmp_path / "data.parquet").to_table(filter=condition)
    assert table["n"].to_pylist() == CASES[text]


@pytest.mark.parametrize(
    "text",
    ["", "n", "n >", "n > x", "n > 3 and", "(n > 3", "n > 3)", "3 < n", "n ~ 3", "n in 3",
     "drop table n", "n > (select 1)", "f(n) > 3", "n > 3; n > 4", "n + 1 > 3", "n is 3", "n > 'a"],
)  # fmt: skip
def test_what_is_no_predicate_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is not understood at"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n > '3'", "a number without quotes"),
        ("region = 3", "'text' in quotes"),
        ("ds > 3", "'2015-01-31'"),
        ("ds > 'soon'", "compares the times of 'ds' with 'soon'"),
        ("open = 1", "column 'open' of type Boolean with 1"),
    ],
)
def test_constants_that_do_not_fit_are_refused(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_polars(parse(text), FRAME.schema)


def test_parts_and_columns_of_a_predicate() -> None:
    predicate = parse("a > 1 and (b = 2 or a = 3) and not c is null")
    assert columns_in(predicate) == ["a", "b", "c"]
    assert [columns_in(part) for part in conjuncts(predicate)] == [["a"], ["b", "a"], ["c"]]


def frames_of(settings: dict[str, Any], folder: Path) -> list[pl.DataFrame]:
    return list(long_batches(DataSettings.model_validate(settings), folder, 1000).frames)


def test_settings_choose_rows_by_columns_they_do_not_read(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "data.parquet", row_group_size=2)
    settings = {"path": "data.parquet", "target": ["n"], "where": "region = 'eu' and n > 1"}
    frame = pl.concat(frames_of(settings, tmp_path))
    assert frame.columns == ["ds", "n"]
    assert frame["n"].to_list() == [2, 8]
    nowhere = {**settings, "where": "regoin = 'eu'"}
    with pytest.raises(DataError, match=r"no column 'regoin'.*did you mean 'region'"):
        frames_of(nowhere, tmp_path)
    nothing = {**settings, "where": "n > 100"}
    assert frames_of(nothing, tmp_path) == []
