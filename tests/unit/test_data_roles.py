from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from forecastd.data.roles import Proposal, infer_roles, settings_for_model
from forecastd.data.table import Columns
from forecastd.errors import DataError
from forecastd.series import Frequency

STAMPS = pl.datetime_range(pl.datetime(2013, 1, 1), pl.datetime(2013, 1, 10), "1h", eager=True)
ROWS = len(STAMPS)
WAVE = [float(step % 24) for step in range(ROWS)]
OTHER = [float(step % 31) for step in range(ROWS)]


def propose(folder: Path, frame: pl.DataFrame) -> Proposal:
    path = folder / "data.parquet"
    frame.write_parquet(path)
    return infer_roles(str(path))


def two_series(**columns: object) -> pl.DataFrame:
    one = pl.DataFrame({"ds": STAMPS, "y": WAVE, **columns})
    return pl.concat([one.with_columns(key=pl.lit(key)) for key in ("n", "s")])


@pytest.mark.parametrize("name", ["unique_id", "item_id", "Series_ID", "id"])
@pytest.mark.parametrize("time", ["ds", "timestamp", "Date"])
@pytest.mark.parametrize("target", ["y", "target", "value"])
def test_usual_names_are_recognised(name: str, time: str, target: str, tmp_path: Path) -> None:
    frame = two_series().rename({"key": name, "ds": time, "y": target})
    settings = propose(tmp_path, frame).settings
    assert (settings.id, settings.time, settings.target) == (name, time, [target])
    assert (settings.freq, settings.season) == ("1h", 24)


def test_a_text_column_that_tells_repeated_stamps_apart_is_the_id(tmp_path: Path) -> None:
    proposal = propose(tmp_path, two_series().rename({"key": "airport"}))
    assert proposal.settings.id == "airport"
    assert "stamps repeat" in proposal.reasons["id"]
    assert (proposal.rows, proposal.series) == (2 * ROWS, 2)


def test_a_row_number_named_id_is_no_series(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": range(ROWS), "ds": STAMPS, "y": WAVE})
    proposal = propose(tmp_path, frame)
    assert proposal.settings.id is None
    assert proposal.left_out["id"] == "counts up with time"


def test_numbers_of_a_long_frame_are_target_and_covariates(tmp_path: Path) -> None:
    gust = pl.Series([None] * (ROWS - 5) + [1.0, 2.0, 3.0, 4.0, 5.0])
    frame = two_series(
        wind=OTHER, gust=gust, still=[3.0] * ROWS, anomaly=[0, 1] * (ROWS // 2) + [0]
    )
    proposal = propose(
        tmp_path, frame.drop("y").select("key", "ds", "wind", "gust", "still", "anomaly")
    )
    assert proposal.settings.target == ["wind"]
    assert proposal.settings.past == []
    assert set(proposal.left_out) == {"gust", "still", "anomaly"}
    both = propose(tmp_path, frame)
    assert (both.settings.target, both.settings.past) == (["y"], ["wind"])


def test_text_within_series_is_static_only_where_it_says_something(tmp_path: Path) -> None:
    frame = pl.concat(
        [
            pl.DataFrame({"ds": STAMPS, "y": WAVE}).with_columns(
                unique_id=pl.lit(key),
                region=pl.lit(region),
                country=pl.lit("US"),
                title=pl.lit(f"title of {key}"),
                sky=pl.Series(["clear", "rain"] * (ROWS // 2) + ["clear"]),
            )
            for key, region in (("a", "east"), ("b", "east"), ("c", "west"))
        ]
    )
    proposal = propose(tmp_path, frame)
    assert proposal.settings.static == ["region"]
    assert set(proposal.left_out) == {"country", "title", "sky"}


def test_several_numbers_without_id_are_a_wide_frame(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "ds": STAMPS,
            "north": WAVE,
            "south": OTHER,
            "holiday": [0, 1] * (ROWS // 2) + [0],
            "hour": [step % 24 for step in range(ROWS)],
            "sky": ["clear", "rain"] * (ROWS // 2) + ["clear"],
        }
    )
    proposal = propose(tmp_path, frame)
    assert proposal.settings.wide
    assert proposal.settings.target == ["north", "south"]
    assert set(proposal.left_out) == {"holiday", "hour", "sky"}


def test_one_number_with_a_flag_is_one_series_with_a_covariate(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"ds": STAMPS, "load": WAVE, "holiday": [True, False] * (ROWS // 2) + [True]}
    )
    settings = propose(tmp_path, frame).settings
    assert (settings.id, settings.target, settings.past) == (None, ["load"], ["holiday"])


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pl.DataFrame({"a": ["x"], "b": [1.5]}), "no column that can be the time"),
        (pl.DataFrame({"ds": [1, 2], "b": ["x", "y"]}), "no column of numbers"),
        (pl.DataFrame({"ds": [1, 2], "b": [5.0, 5.0]}), "no column of numbers"),
        (pl.DataFrame({"ds": [], "y": []}), "has no rows"),
    ],
)
def test_a_frame_without_a_role_is_refused(frame: pl.DataFrame, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        propose(tmp_path, frame)


def test_a_wide_frame_is_read_as_a_model_of_wide_data_names_it(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    pl.DataFrame({"ds": STAMPS, "north": WAVE, "south": OTHER}).write_parquet(path)
    hourly = Frequency.parse("1h")
    found = settings_for_model(str(path), Columns("unique_id", "ds", "y"), hourly)
    assert (found.wide, found.target, found.freq) == (True, ["north", "south"], "1h")
    one = settings_for_model(str(path), Columns(None, "ds", "south", ("north",)), hourly)
    assert (one.id, one.target, one.past) == (None, ["south"], ["north"])
    with pytest.raises(DataError, match="no column 'heat'"):
        settings_for_model(str(path), Columns(None, "ds", "south", ("heat",)), hourly)
