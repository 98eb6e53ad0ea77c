"""Checking and guessing in small pieces and in any order say what they say of the whole."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastd.config import DataSettings
from forecastd.data import sample, survey
from forecastd.data.check import CheckReport, check
from forecastd.data.lengths import bars_of, padding_of
from forecastd.data.preparing import Memory
from forecastd.data.roles import infer_roles, roles_of
from forecastd.data.sample import sample_of
from forecastd.data.store import prepare
from forecastd.errors import UserError

HOUR_US = 3_600_000_000
ROWS = st.lists(
    st.tuples(
        st.sampled_from("cab"),
        st.integers(0, 40),
        st.sampled_from([0.0, 1.0, 2.5, -9999.0, float("nan"), None]),
        st.sampled_from([0.0, 1.0, None]),
    ),
    min_size=1,
    max_size=60,
)
Row = tuple[str, int, float | None, float | None]


def written(rows: list[Row], folder: Path) -> DataSettings:
    keys, hours, values, others = zip(*rows, strict=True)
    frame = pl.DataFrame(
        {
            "unique_id": keys,
            "ds": pl.Series([h * HOUR_US for h in hours]).cast(pl.Datetime("us")),
            "y": pl.Series(values, dtype=pl.Float64),
            "x": pl.Series(others, dtype=pl.Float64),
            "twin": pl.Series(others, dtype=pl.Float64),
        }
    )
    frame.write_parquet(folder / "d.parquet", row_group_size=11)
    given = {"path": "d.parquet", "id": "unique_id", "past": ["x", "twin"], "freq": "1h"}
    return DataSettings.model_validate({**given, "season": 2, "max_gap": 3})


def in_pieces(data: DataSettings, folder: Path) -> CheckReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "BLOCK_ROWS", 5)
        patch.setattr(survey, "memory_for", lambda *_: Memory(7, 13))
        return check(data, folder)


def expected(rows: list[Row]) -> dict[str, tuple[int, list[str]]]:
    """Count by hand what the order of the rows and their distances show."""
    found: dict[str, list[str]] = defaultdict(list)
    by_key: dict[str, list[int]] = defaultdict(list)
    for key, hour, *_ in rows:
        by_key[key].append(hour)
    for key, hours in by_key.items():
        found["steps_back"] += [key for one, two in itertools.pairwise(hours) if two < one]
        found["repeats"] += [key] * (len(hours) - len(set(hours)))
        holes = [two - one - 1 for one, two in itertools.pairwise(sorted(set(hours)))]
        found["gaps"] += [key for hole in holes if 1 <= hole <= 3]
        found["long_gaps"] += [key for hole in holes if hole > 3]
    return {kind: (len(keys), sorted(set(keys))) for kind, keys in found.items() if keys}


@settings(max_examples=40)
@given(ROWS)
def test_rows_in_any_order_are_counted_as_by_hand(tmp_path: Path, rows: list[Row]) -> None:
    data = written(rows, tmp_path)
    report = check(data, tmp_path)
    found = {f.kind: (f.count, f.series) for f in report.findings if f.kind in expected(rows)}
    assert found == expected(rows)
    assert in_pieces(data, tmp_path) == report
    twins = [f.what for f in report.findings if f.kind == "duplicate"]
    assert twins == ["column twin holds the same as x"]


@settings(max_examples=40)
@given(ROWS)
def test_what_a_check_counts_is_what_prepare_does(tmp_path: Path, rows: list[Row]) -> None:
    data = written(rows, tmp_path)
    counts = {finding.kind: finding.count for finding in check(data, tmp_path).findings}
    done = prepare(data, tmp_path, tmp_path / "store").report
    assert counts.get("repeats", 0) == done.repeats_dropped
    assert counts.get("steps_back", 0) == done.rows_sorted_back
    assert counts.get("gaps", 0) == done.holes
    assert counts.get("long_gaps", 0) == done.resets


def test_wide_columns_clocks_and_leaks_in_pieces(tmp_path: Path) -> None:
    hours = pl.datetime_range(pl.datetime(2021, 1, 1), pl.datetime(2021, 12, 31), "1h", eager=True)
    local = hours.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    noise = np.random.default_rng(0).normal(size=len(hours))
    frame = pl.DataFrame({"ds": local.dt.replace_time_zone(None), "y": noise, "x": noise})
    frame = frame.with_columns(z=pl.col("y").shift(-2))
    frame.sample(fraction=1.0, shuffle=True, seed=0).write_parquet(tmp_path / "d.parquet")
    long = {"path": "d.parquet", "past": ["x", "z"], "season": 3}
    wide = {"path": "d.parquet", "target": ["y", "x", "z"], "season": 3}
    for given_settings, kinds in ((long, {"clock_jumps", "leak"}), (wide, {"duplicate"})):
        data = DataSettings.model_validate(given_settings)
        report = check(data, tmp_path)
        assert kinds <= {finding.kind for finding in report.findings}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(survey, "BLOCK_ROWS", 997)
            patch.setattr(survey, "memory_for", lambda *_: Memory(1000, 3000))
            assert check(data, tmp_path) == report


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of series without a usual name, far larger than what is looked at."""
    monkeypatch.setattr(sample, "ROWS_MAX", 2048)
    monkeypatch.setattr(sample, "KEPT_MAX", 512)
    steps = np.arange(4000)
    series = [
        pl.DataFrame(
            {
                "ds": pl.Series(steps * HOUR_US).cast(pl.Datetime("us")),
                "y": np.sin(steps * 2 * np.pi / 24) + number,
                "row": steps + 4000 * number,
            }
        ).select(
            pl.lit(f"s{number}").alias("place"), pl.lit("ab"[number % 2]).alias("region"), pl.all()
        )
        for number in range(6)
    ]
    pl.concat(series).write_parquet(tmp_path / "d.parquet", row_group_size=1500)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.usefixtures("large")
def test_some_rows_stand_for_all(tmp_path: Path, suffix: str) -> None:
    frame = pl.read_parquet(tmp_path / "d.parquet")
    if suffix == "csv":
        frame.write_csv(tmp_path / "d.csv")
    path = str(tmp_path / f"d.{suffix}")
    looked_at = sample_of(path)
    assert not looked_at.whole
    assert looked_at.frame.height <= 2048
    proposal = infer_roles(path)
    data = proposal.settings
    assert (data.id, data.time, data.target, data.static) == ("place", "ds", ["y"], ["region"])
    assert proposal.left_out["row"] == "counts up with time"
    assert proposal.looked_at == looked_at.frame.height
    assert (proposal.rows, proposal.series, proposal.shortest) == (frame.height, 6, 4000)
    assert (str(proposal.frequency), proposal.season) == ("1h", 24)
    assert (proposal.first, proposal.last) == (0, 3999 * HOUR_US)


@pytest.mark.usefixtures("large")
def test_stamps_that_repeat_beyond_the_sample_are_found(tmp_path: Path) -> None:
    frame = pl.read_parquet(tmp_path / "d.parquet")
    path = str(tmp_path / "d.parquet")
    looked_at = sample_of(path)
    assert looked_at.repeats(["ds"])
    assert not looked_at.repeats(["place", "ds"])
    assert not looked_at.repeats(["row"])
    frame.unique("ds", keep="first").sort("ds").write_parquet(path, row_group_size=1500)
    assert not sample_of(path).repeats(["ds"])
    assert roles_of(path).settings.id is None


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written([("a", hour, 1.0, None) for hour in range(50)], tmp_path)
    nowhere = tmp_path / "none"
    monkeypatch.setattr("tempfile.tempdir", str(nowhere))
    with pytest.raises(UserError, match=f"cannot sort d.parquet in {nowhere}"):
        check(data, tmp_path)


@pytest.mark.shows("S44", "S66")
def test_padding_is_what_batches_hold_beside_the_series() -> None:
    lengths = np.array([1, 100] * 64)
    ends = np.cumsum(lengths)
    segments = np.stack([np.arange(128), ends - lengths, ends], axis=1)
    padding = padding_of(segments)
    assert padding.unsorted == pytest.approx(1 - 101 / 200)
    assert padding.by_length == 0
    assert 0 < padding.lanes < 1
    whole = np.array([[0, 0, 96 * 64 * 10]])
    assert padding_of(whole).lanes < 0.1
    assert padding_of(whole).unsorted == 0


@pytest.mark.shows("S66")
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_bars_hold_every_series_once(lengths: list[int]) -> None:
    bars = bars_of(np.array(lengths))
    assert sum(bar.series for bar in bars) == len(lengths)
    assert (bars[0].shortest, bars[-1].longest) == (min(lengths), max(lengths))
    for bar in bars:
        inside = [length for length in lengths if bar.shortest <= length <= bar.longest]
        assert len(inside) == bar.series
    assert all(one.longest + 1 == two.shortest for one, two in itertools.pairwise(bars))
