from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer

from forecast_cli.data import check as check_command
from forecastd.config import DataSettings
from forecastd.data.check import CheckReport, Finding, check

HOUR_US = 3_600_000_000


def report_of(
    folder: Path, rows: list[tuple[str, int, float | None]], **settings: Any
) -> CheckReport:
    keys, minutes, values = zip(*rows, strict=True)
    stamps = pl.Series([minute * 60_000_000 for minute in minutes]).cast(pl.Datetime("us"))
    frame = pl.DataFrame(
        {"unique_id": keys, "ds": stamps, "y": pl.Series(values, dtype=pl.Float64)}
    )
    frame.write_parquet(folder / "data.parquet")
    given = {"path": "data.parquet", "id": "unique_id", "freq": "1h", "season": 3, **settings}
    return check(DataSettings.model_validate(given), folder)


def tidy(key: str = "a", rows: int = 20) -> list[tuple[str, int, float | None]]:
    return [(key, 60 * step, float(step % 7)) for step in range(rows)]


def only(report: CheckReport) -> Finding:
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def test_a_tidy_data_set_has_no_finding(tmp_path: Path) -> None:
    report = report_of(tmp_path, tidy())
    assert report.clean
    assert (report.rows, report.series, report.frequency, report.max_gap) == (20, 1, "1h", 3)


def test_gaps_say_what_is_filled_and_what_resets(tmp_path: Path) -> None:
    rows = [row for row in tidy(rows=40) if row[1] // 60 not in {5, 6, 20, 21, 22, 23}]
    gaps, long_gaps = report_of(tmp_path, rows).findings
    assert (gaps.kind, gaps.count, gaps.what) == (
        "gaps",
        1,
        "holes of up to 2 steps, 2 steps in all",
    )
    assert (long_gaps.kind, long_gaps.count) == ("long_gaps", 1)
    assert "afresh" in long_gaps.action
    assert [f.kind for f in report_of(tmp_path, rows, max_gap=9).findings] == ["gaps"]


def test_repeats_and_steps_back_name_their_series(tmp_path: Path) -> None:
    back, repeats = report_of(tmp_path, [*tidy("a"), *tidy("b"), ("b", 300, 1.0)]).findings
    assert (back.kind, back.count, back.series) == ("steps_back", 1, ["b"])
    assert (repeats.kind, repeats.count, repeats.series) == ("repeats", 1, ["b"])


def test_nulls_and_non_finite_values(tmp_path: Path) -> None:
    rows = [*tidy(), ("a", 1200, None), ("a", 1260, float("nan")), ("a", 1320, float("inf"))]
    nulls, non_finite = report_of(tmp_path, rows).findings
    assert (nulls.kind, nulls.count) == ("nulls", 1)
    assert nulls.what == "values missing in y (4.3 %)"
    assert (non_finite.kind, non_finite.count) == ("non_finite", 2)


def test_constant_empty_and_short_series(tmp_path: Path) -> None:
    rows = [*tidy("a"), *[("c", 60 * s, 5.0) for s in range(20)]]
    rows += [*[("e", 60 * s, None) for s in range(20)], *tidy("s", 4)]
    found = {finding.kind: finding for finding in report_of(tmp_path, rows).findings}
    assert {kind: finding.series for kind, finding in found.items() if kind != "nulls"} == {
        "constant": ["c"],
        "empty": ["e"],
        "short": ["s"],
    }


def test_sentinels_far_from_the_rest_are_suspected(tmp_path: Path) -> None:
    finding = only(report_of(tmp_path, [*tidy(), ("a", 1200, -9999.0), ("a", 1260, -9999.0)]))
    assert (finding.kind, finding.count) == ("sentinel", 2)
    spread = [("a", 60 * step, 1000.0 * step - 9999.0) for step in range(20)]
    assert report_of(tmp_path, spread).clean


def test_irregular_stamps_and_other_frequencies(tmp_path: Path) -> None:
    late = only(report_of(tmp_path, [*tidy(), ("a", 1207, 3.0)]))
    assert (late.kind, late.count) == ("irregular", 1)
    slow = [("slow", 180 * step, float(step % 5)) for step in range(20)]
    mixed = report_of(tmp_path, [*tidy("a", 60), *slow]).findings
    assert {f.kind: f.series for f in mixed} == {"gaps": ["slow"], "mixed_frequency": ["slow"]}


def test_many_series_are_counted_and_a_few_named(tmp_path: Path) -> None:
    finding = only(report_of(tmp_path, [row for key in "abcdefgh" for row in tidy(key, 4)]))
    assert (finding.series, finding.series_total) == (["a", "b", "c", "d", "e"], 8)


def test_the_command_prints_a_table_or_json(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = str(project / "datasets" / "nyc_weather" / "forecast.toml")
    check_command(config)
    printed = capsys.readouterr()
    assert "holes of up to 5 steps, 75 steps in all" in printed.out
    assert "26,115 observations, 3 series, freq 1h, season 24, max_gap 24" in printed.err
    check_command(config, as_json=True)
    read = json.loads(capsys.readouterr().out)
    assert not read["clean"]
    assert {finding["kind"] for finding in read["findings"]} == {"gaps", "nulls"}


def test_strict_answers_no_where_something_was_found(project: Path, tmp_path: Path) -> None:
    data = str(project / "datasets" / "nyc_weather" / "nyc_weather.parquet")
    with pytest.raises(typer.Exit) as stopped:
        check_command(data, strict=True)
    assert stopped.value.exit_code == 1
    report_of(tmp_path, tidy())
    check_command(str(tmp_path / "data.parquet"), strict=True)


def checked(folder: Path, frame: pl.DataFrame, **settings: Any) -> dict[str, Finding]:
    frame.write_parquet(folder / "data.parquet")
    given = {"path": "data.parquet", "season": 3, **settings}
    report = check(DataSettings.model_validate(given), folder)
    return {finding.kind: finding for finding in report.findings}


HOURS = pl.datetime_range(pl.datetime(2021, 1, 1), pl.datetime(2021, 12, 31), "1h", eager=True)
NOISE = np.random.default_rng(0).normal(size=len(HOURS))


def test_a_local_clock_with_daylight_saving_is_noticed(tmp_path: Path) -> None:
    berlin = HOURS.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    frame = pl.DataFrame({"ds": berlin.dt.replace_time_zone(None), "y": NOISE})
    found = checked(tmp_path, frame)
    assert found["clock_jumps"].count == 1
    assert "1 rows it gives twice" in found["clock_jumps"].what
    assert "better write the times in UTC" in found["clock_jumps"].action
    assert checked(tmp_path, pl.DataFrame({"ds": berlin, "y": NOISE})) == {}


def test_a_hole_of_an_hour_is_no_clock(tmp_path: Path) -> None:
    march = pl.Series([datetime(2021, 3, 14, 2)])  # noqa: DTZ001  a Sunday
    frame = pl.DataFrame({"ds": HOURS, "y": NOISE}).filter(~pl.col("ds").is_in(march.implode()))
    assert set(checked(tmp_path, frame)) == {"gaps"}


def test_columns_that_are_the_same_are_named(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": HOURS, "y": NOISE, "a": NOISE[::-1], "b": NOISE[::-1]})
    found = checked(tmp_path, frame, past=["a", "b"])
    assert found["duplicate"].what == "column b holds the same as a"
    found = checked(tmp_path, frame, target=["y", "a", "b"])
    assert found["duplicate"].what == "column b holds the same as a"


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_covariate_that_tells_the_target_is_a_leak(shift: int, tmp_path: Path) -> None:
    shifted = pl.Series(NOISE).shift(-shift)
    frame = pl.DataFrame({"ds": HOURS, "y": NOISE, "x": shifted}).sample(
        fraction=1.0, shuffle=True, seed=1
    )
    found = checked(tmp_path, frame, past=["x"])
    assert "leak" in found
    assert found["leak"].what.endswith(f"{shift} steps ahead" if shift else "of the same step")
    late = frame.with_columns(x=pl.Series(NOISE).shift(2))
    assert "leak" not in checked(tmp_path, late.with_columns(y=pl.Series(NOISE)), past=["x"])


def test_declared_sentinels_are_counted_and_suspected_no_more(tmp_path: Path) -> None:
    rows = [*tidy(), ("a", 1200, -9999.0), ("a", 1260, None)]
    assert {f.kind for f in report_of(tmp_path, rows).findings} == {"nulls", "sentinel"}
    nulls, sentinels = report_of(tmp_path, rows, sentinels=[-9999]).findings
    assert (nulls.kind, nulls.count) == ("nulls", 1)
    assert (sentinels.kind, sentinels.count) == ("sentinels", 1)
