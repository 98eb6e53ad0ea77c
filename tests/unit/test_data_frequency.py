from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.config import DataSettings
from forecastd.data.frequency import infer_frequency, infer_season, season_candidates
from forecastd.data.roles import infer_roles
from forecastd.errors import DataError
from forecastd.series import Frequency

REAL = {
    "ETTh1": ("1h", 24),
    "ETTm1": ("15min", 96),
    "airpassengers": ("1mo", 12),
    "bdg2_hourly_sample": ("1h", 24),
    "chickenpox_nyc": ("1mo", 12),
    "cmapss_FD001_train": ("1", 1),
    "co2_weekly": ("1w", 52),
    "energy_appliance": ("10min", None),
    "exchange_rate": ("1d", 1),
    "illness_ili": ("1w", 52),
    "los_loop_speed": ("5min", 288),
    "m4_hourly_train": ("1h", 24),
    "nyc_weather": ("1h", 24),
    "occupancy_train": ("1min", None),
    "peyton_manning": ("1d", 7),
    "seattle_trail": ("1h", 24),
    "sunspots_monthly": ("1mo", 1),
    "taylor": ("30min", 48),
    "us_employment": ("1mo", 12),
    "vic_electricity": ("30min", 48),
    "water_flow": ("1h", 1),
    "weather_jena2020": ("10min", 144),
    "yosemite_temps": ("5min", 288),
}
"""What a person would say; None where people may differ."""


@pytest.mark.parametrize("name", REAL)
def test_real_data(name: str, project: Path) -> None:
    path = project.parent / "shared" / "data" / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path.name} of the shared data is not here")
    frequency, season = REAL[name]
    proposal = infer_roles(str(path))
    assert str(proposal.frequency) == frequency
    assert season is None or proposal.season == season


@given(st.sampled_from(["1s", "5min", "1h", "1d", "1w", "1mo", "3mo", "1y", "1", "10"]))
def test_a_regular_grid_gives_its_own_frequency(text: str) -> None:
    frequency = Frequency.parse(text)
    times = frequency.advance(np.array([0], np.int64), np.arange(60))
    found, why = infer_frequency([times], counted=frequency.kind == "count")
    assert found == frequency
    assert "100.0 %" in why


def test_stamps_that_jitter_by_a_second_are_minutes() -> None:
    jitter = np.random.default_rng(0).integers(-1, 2, 500)
    times = (np.arange(500) * 60 + jitter) * 1_000_000
    assert str(infer_frequency([times])[0]) == "1min"


def test_holes_do_not_change_the_frequency() -> None:
    kept = np.random.default_rng(0).random(400) < 0.5
    times = np.arange(400)[kept] * 3_600_000_000
    assert str(infer_frequency([times])[0]) == "1h"


def test_ends_of_months_are_monthly() -> None:
    ends = np.arange("2000-02", "2004-02", dtype="datetime64[M]").astype("datetime64[us]")
    times = (ends - np.timedelta64(1, "D")).astype(np.int64)
    assert str(infer_frequency([times])[0]) == "1mo"


def test_four_weeks_are_no_month() -> None:
    times = np.arange(60) * 28 * 86_400_000_000
    assert str(infer_frequency([times])[0]) == "4w"


def test_single_rows_have_no_frequency() -> None:
    with pytest.raises(DataError, match="set freq"):
        infer_frequency([np.array([5]), np.array([7])])
    assert str(infer_frequency([np.array([5])], counted=True)[0]) == "1"


@pytest.mark.parametrize(
    ("text", "seasons"),
    [
        ("1h", [24, 168]),
        ("30min", [48, 336]),
        ("15min", [96]),
        ("10min", [144]),
        ("5min", [288]),
        ("1min", [1440]),
        ("1d", [7]),
        ("1w", [52]),
        ("1mo", [12]),
        ("1q", [4]),
        ("1y", []),
        ("1s", [60, 3600]),
    ],
)
def test_candidates_come_from_the_calendar(text: str, seasons: list[int]) -> None:
    assert season_candidates(Frequency.parse(text)) == seasons


@pytest.mark.parametrize("season", [4, 7, 12, 24])
def test_a_season_among_counts_is_found(season: int) -> None:
    steps = np.arange(600)
    noise = np.random.default_rng(0).normal(0, 0.3, 600)
    wave = np.sin(2 * np.pi * steps / season) + 0.01 * steps + noise
    assert infer_season([wave.astype(np.float32)], Frequency("count", 1))[0] == season


@pytest.mark.parametrize("frequency", ["1h", "1d", "1mo", "1"])
@pytest.mark.parametrize("walk", [False, True])
def test_noise_and_random_walks_have_no_season(frequency: str, walk: bool) -> None:
    noise = np.random.default_rng(1).normal(size=2000)
    values = (np.cumsum(noise) if walk else noise).astype(np.float32)
    assert infer_season([values], Frequency.parse(frequency))[0] == 1


def test_missing_and_wild_values_do_not_hide_a_season() -> None:
    generator = np.random.default_rng(2)
    values = np.sin(2 * np.pi * np.arange(2400) / 24).astype(np.float32)
    values[generator.random(2400) < 0.3] = np.nan
    values[generator.integers(0, 2400, 5)] = 1e6
    assert infer_season([values], Frequency.parse("1h"))[0] == 24


def test_too_few_rows_show_no_season() -> None:
    season, why = infer_season([np.arange(30, dtype=np.float32)], Frequency.parse("1h"))
    assert season == 1
    assert "too few rows" in why
    assert infer_season([], Frequency.parse("1h"))[0] == 1


def test_settings_override_both(tmp_path: Path) -> None:
    from forecastd.data.store import prepare

    pl.DataFrame({"ds": list(range(0, 40, 2)), "y": [1.0] * 20}).write_parquet(
        tmp_path / "d.parquet"
    )
    data = DataSettings(path="d.parquet", freq="1", season=9)
    store = prepare(data, tmp_path, tmp_path / "store")
    assert (str(store.frequency), store.season, len(store.times)) == ("1", 9, 39)
