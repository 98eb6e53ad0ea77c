from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecast_cli.preparing import parse_bytes
from forecastd.data.catalogue import names_in, read_card
from forecastd.data.reader import read_frame
from forecastd.data.store import open_store
from forecastd.data.synthetic import KINDS, SCHEMA, synthesize
from forecastd.errors import UserError
from forecastd.files import sha256

STAMPS = pl.datetime_range(
    pl.datetime(2013, 1, 1), pl.datetime(2013, 1, 10), "1h", eager=True
).alias("ds")
WIDE = pl.DataFrame(
    {"ds": STAMPS, "n": np.arange(len(STAMPS)) % 7 + 0.5, "s": np.arange(len(STAMPS)) % 5 + 0.25}
)
SUFFIXES = ("parquet", "csv", "ndjson", "arrow")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def output(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    WIDE.write_parquet(tmp_path / "wide.parquet")
    return tmp_path / "wide.parquet"


def test_describe_tells_span_grid_and_columns(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "ds": STAMPS,
            "y": [None, float("nan"), *np.sin(np.arange(len(STAMPS) - 2) * 2 * np.pi / 24)],
            "n": range(len(STAMPS)),
            "flag": [True, False] * (len(STAMPS) // 2) + [True],
            "text": ["a", None] * (len(STAMPS) // 2) + ["b"],
        }
    )
    frame.write_parquet(tmp_path / "d.parquet", row_group_size=50)
    facts = json.loads(output("data", "describe", tmp_path / "d.parquet", "--json"))
    assert (facts["rows"], facts["series"], facts["frequency"], facts["season"]) == (
        217,
        1,
        "1h",
        24,
    )
    assert (facts["first"], facts["last"]) == ("2013-01-01T00:00:00", "2013-01-10T00:00:00")
    columns: dict[str, Any] = {column["name"]: column for column in facts["columns"]}
    assert columns["y"]["missing_share"] == pytest.approx(2 / 217, abs=1e-6)
    assert (columns["n"]["min"], columns["n"]["mean"], columns["n"]["max"]) == (0, 108, 216)
    assert columns["flag"]["mean"] == pytest.approx(109 / 217)
    assert columns["text"]["missing_share"] == pytest.approx(108 / 217, abs=1e-6)
    assert columns["ds"]["min"] == "2013-01-01 00:00:00"
    assert "missing" in output("data", "describe", tmp_path / "d.parquet")


@pytest.mark.shows("S66")
def test_describe_draws_lengths_and_tells_padding(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 100, "c": 40}
    frames = [
        WIDE.head(rows).select(pl.lit(key).alias("id"), "ds", y="n") for key, rows in sizes.items()
    ]
    pl.concat(frames).write_parquet(tmp_path / "d.parquet")
    facts = json.loads(output("data", "describe", tmp_path / "d.parquet", "--json"))
    assert (facts["lengths"]["shortest"], facts["lengths"]["longest"]) == (40, 100)
    assert sum(bar["series"] for bar in facts["lengths"]["bars"]) == 3
    assert facts["padding"]["unsorted"] == pytest.approx(1 - 240 / 300)
    printed = output("data", "describe", tmp_path / "d.parquet")
    longest = next(line for line in printed.splitlines() if "to 100 " in line)
    assert longest.split()[3:] == ["2", 40 * "█"]
    assert "20.0 %  series as they come" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    WIDE.write_parquet(tmp_path / "w.parquet")
    assert "each series has 217 steps" in output("data", "describe", tmp_path / "w.parquet")


def test_describe_takes_sentinels_of_a_config_for_missing(tmp_path: Path) -> None:
    WIDE.select("ds", y=pl.when(pl.col("n") < 1).then(-9999).otherwise(pl.col("n"))).write_csv(
        tmp_path / "d.csv"
    )
    config = tmp_path / "forecast.toml"
    config.write_text(
        '[data]\npath = "d.csv"\nsentinels = [-9999]\nwhere = "ds < \'2013-01-02\'"\n'
    )
    facts = json.loads(output("data", "describe", config, "--json"))
    y = facts["columns"][1]
    assert (facts["rows"], y["min"], y["missing_share"]) == (24, 1.5, round(4 / 24, 6))


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize("origin", SUFFIXES)
def test_convert_between_all_formats(origin: str, to: str, wide: Path, tmp_path: Path) -> None:
    output("data", "convert", wide, tmp_path / f"a.{origin}")
    output("data", "convert", tmp_path / f"a.{origin}", tmp_path / f"b.{to}")
    found = read_frame(str(tmp_path / f"b.{to}"))
    stamps = found["ds"].str.to_datetime() if found["ds"].dtype == pl.String else found["ds"]
    assert found.with_columns(stamps.cast(pl.Datetime("us"))).equals(WIDE)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_convert_to_long_and_back_to_wide(wide: Path, tmp_path: Path) -> None:
    long, back = tmp_path / "long.csv", tmp_path / "back.parquet"
    output("data", "convert", wide, long, "--long", "--sort")
    frame = pl.read_csv(long)
    assert frame["unique_id"].to_list() == ["n"] * len(STAMPS) + ["s"] * len(STAMPS)
    output("data", "convert", long, back, "--wide")
    assert pl.read_parquet(back).select("ds", "n", "s").equals(WIDE)
    assert "is long already" in refused("data", "convert", long, tmp_path / "x.csv", "--long")
    assert "no column of series" in refused("data", "convert", wide, tmp_path / "x.csv", "--wide")


def test_convert_sorts_and_keeps_every_column(tmp_path: Path) -> None:
    frame = pl.concat(
        WIDE.select(pl.lit(key).alias("id"), "ds", y="n", note=pl.lit("x")) for key in "ab"
    )
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=3)
    mixed.write_parquet(tmp_path / "mixed.parquet")
    output("data", "convert", tmp_path / "mixed.parquet", tmp_path / "s.arrow", "--sort")
    assert pl.read_ipc(tmp_path / "s.arrow").equals(frame)


def test_convert_keeps_what_is_there_unless_forced(wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("mine")
    assert "add --force" in refused("data", "convert", wide, target)
    assert target.read_text() == "mine"
    output("data", "convert", wide, target, "--force")
    assert pl.read_csv(target).height == WIDE.height
    assert "no known format" in refused("data", "convert", wide, tmp_path / "x.xlsx")
    assert "exclude each other" in refused("data", "convert", wide, "y.csv", "--long", "--wide")


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    for name in ("1", "2"):
        WIDE.write_parquet(tmp_path / f"{name}.parquet")
    whole = (tmp_path / "2.parquet").read_bytes()
    (tmp_path / "2.parquet").write_bytes(whole[:4] + bytes(200) + whole[204:])
    words = refused("data", "convert", tmp_path / "*.parquet", tmp_path / "all.csv")
    assert "cannot read" in words
    assert "2.parquet" in words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.parquet", "2.parquet"]


def test_lists_are_unrolled_by_long_and_refused_by_csv(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {"item_id": ["a", "b"], "start": STAMPS[:2], "freq": ["H", "H"], "target": [[1.0, 2.0]] * 2}
    )
    rows.write_parquet(tmp_path / "rows.parquet")
    assert "which CSV cannot" in refused(
        "data", "convert", tmp_path / "rows.parquet", tmp_path / "x.csv"
    )
    output("data", "convert", tmp_path / "rows.parquet", tmp_path / "x.csv", "--long")
    assert pl.read_csv(tmp_path / "x.csv")["target"].to_list() == [1.0, 2.0, 1.0, 2.0]


def test_prepare_makes_a_store_and_keeps_it(wide: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    read = json.loads(output("data", "prepare", wide, "-o", store, "--memory", "64MB", "--json"))
    assert (read["rows_read"], read["series"]) == (2 * len(STAMPS), 2)
    assert open_store(store).keys == ["n", "s"]
    written = (store / "store.json").stat().st_mtime_ns
    output("data", "prepare", wide, "-o", store)
    assert (store / "store.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 512_000_000), ("2GiB", 2 << 30), ("1.5 kb", 1500), ("7", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "512 apples"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize("kind", KINDS)
def test_made_up_series_depend_on_seed_and_number_alone(kind: str, tmp_path: Path) -> None:
    output("data", "synth", kind, tmp_path / "a.parquet", "--series", 3, "--steps", 50, "--seed", 4)
    few = pl.read_parquet(tmp_path / "a.parquet")
    assert (few.height, few["unique_id"].n_unique(), few.schema) == (150, 3, SCHEMA)
    assert few["y"].is_finite().all()
    many = pl.concat(synthesize(kind, 9, 50, 4))
    assert many.head(150).equals(few)
    assert not pl.concat(synthesize(kind, 3, 50, 5)).equals(few)
    assert few.equals(few.sort("unique_id", "ds"))


def test_an_unknown_kind_lists_the_known(tmp_path: Path) -> None:
    assert "known: waves, random-walk" in refused("data", "synth", "noise", tmp_path / "a.csv")


CARDS = Path(__file__).resolve().parents[2] / "datasets"
MIRROR = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.trap(43)
@pytest.mark.parametrize("name", names_in(CARDS))
def test_each_card_is_whole_and_true(name: str) -> None:
    card = read_card(CARDS, name)
    assert card.name == name
    assert (CARDS / name / "README.md").is_file()
    if not MIRROR.is_dir():
        pytest.skip("the shared data is not here")
    for file in card.files:
        assert sha256(MIRROR / file.name) == file.sha256
        assert pl.scan_parquet(MIRROR / file.name).select(pl.len()).collect().item() == file.rows


def test_each_folder_of_a_data_set_has_a_card() -> None:
    folders = sorted(path.name for path in CARDS.iterdir() if path.is_dir())
    assert names_in(CARDS) == [name for name in folders if not name.startswith(("_", "."))]


def test_fetch_copies_verifies_and_tells_where(tmp_path: Path, project: Path) -> None:
    mirror = project / "datasets" / "nyc_weather"
    goal = tmp_path / "data"
    missing = refused("data", "fetch", "nyc_weather", "--cards", CARDS, "-o", goal)
    assert "no folder was named" in missing
    assert "CC0" in missing
    printed = output("data", "fetch", "nyc_weather", "--from", mirror, "--cards", CARDS, "-o", goal)
    assert printed.strip() == str(goal / "nyc_weather.parquet")
    assert sha256(goal / "nyc_weather.parquet") == sha256(mirror / "nyc_weather.parquet")
    output("data", "fetch", "nyc_weather", "-o", goal, "--cards", CARDS)
    assert "known: ETTh1" in refused("data", "fetch", "nothing", "--cards", CARDS)


@pytest.mark.trap(43)
def test_fetch_believes_the_checksum_only(tmp_path: Path) -> None:
    (tmp_path / "nyc_weather.parquet").write_bytes(b"something else")
    goal = tmp_path / "data"
    words = refused(
        "data", "fetch", "nyc_weather", "--from", tmp_path, "--cards", CARDS, "-o", goal
    )
    assert "but the card says 524eefaf04d1" in words
    assert list(goal.iterdir()) == []
