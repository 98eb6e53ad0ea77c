from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from forecastd.config import (
    FILE_BYTES_MAX,
    DataSettings,
    Duration,
    Settings,
    TrainConfig,
    load,
    parse_duration,
)
from forecastd.errors import ConfigError

MINIMAL = '[data]\npath = "x.parquet"\n'


def _write(folder: Path, text: str) -> Path:
    path = folder / "forecast.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _load(folder: Path, text: str, **options: Any):
    return load(TrainConfig, _write(folder, text), **{"environment": {}, **options})


def _problems(folder: Path, text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        _load(folder, text, **options)
    return error.value.problems


def test_a_config_needs_only_a_path(tmp_path: Path) -> None:
    settings = _load(tmp_path, MINIMAL).settings
    assert settings.data.path == "x.parquet"
    assert settings.network.hidden == 64


def test_all_problems_come_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = MINIMAL + 'pst = ["a"]\n\n[train]\nbatch = 0\nlr = "fast"\n\n[netwrok]\nhidden = 3\n'
    problems = _problems(tmp_path, text)
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in problems] == [
        "3",
        "6",
        "7",
        "9",
    ]
    assert "'past'" in problems[0]
    assert "batch" in problems[1]
    assert "found 0" in problems[1]
    assert "'fast'" in problems[2]
    assert "'network'" in problems[3]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[train]\nhorizn = 3\n", 2, "unknown key 'train.horizn'"),
        ('[network]\nhead = { knd = "point" }\n', 2, "did you mean 'kind'"),
        ("network.head.level = [80]\n", 1, "did you mean 'levels'"),
        ("[train]\nxyzzy = 3\n", 2, "known: mode, epochs"),
        ("[train]\nseed = true\n", 2, "seed"),
        ("[train]\nseed = 1.5\n", 2, "seed"),
        ('[train]\nbatch = "64"\n', 2, "batch"),
        ('[train]\ndevice = "gpu"\n', 2, "device"),
        ("[network.head]\nlevels = [80, 100]\n", 2, "levels"),
        ("[network.head]\nlevels = []\n", 2, "levels"),
        ("version = 2\n", 1, "version"),
    ],
)
def test_a_problem_names_its_line_and_the_nearest_key(tmp_path, text, line, words) -> None:
    [problem] = _problems(tmp_path, text + MINIMAL if text[0] != "[" else text + "\n" + MINIMAL)
    assert f"forecast.toml:{line}: " in problem
    assert words in problem


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('time = "y"', "two roles"),
        ('past = ["a", "a"]', "two roles"),
        ('id = "i"\ntarget = ["a", "b"]', "wide frame"),
        ('target = ["a", "b"]\npast = ["c"]', "wide frame"),
        ('freq = "1 fortnight"', "not a frequency"),
        ("target = []", "at least 1"),
    ],
)
def test_columns_that_contradict_are_refused(tmp_path: Path, data: str, words: str) -> None:
    [problem] = _problems(tmp_path, MINIMAL + data + "\n")
    assert words in problem


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "'data.path' is missing" in _problems(tmp_path, "[data]\n")[0]
    assert "'data' is missing" in _problems(tmp_path, "")[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[data]\nx = \n", "line 2"),
        (b"\xff\xfe", "UTF-8"),
        (b"#" * (FILE_BYTES_MAX + 1), "larger than"),
    ],
    ids=["not TOML", "not text", "too large"],
)
def test_what_is_no_config_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "forecast.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as error:
        load(TrainConfig, path)
    assert str(path) in error.value.message


def test_a_missing_config_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as error:
        load(TrainConfig, tmp_path / "none.toml")
    assert "forecast init" in (error.value.hint or "")


def test_set_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    text = MINIMAL + "[train]\nbatch = 2\nseed = 2\nepochs = 2\n"
    loaded = _load(
        tmp_path,
        text,
        environment={"FORECAST__TRAIN__BATCH": "3", "FORECAST__TRAIN__SEED": "3", "OTHER": "x"},
        overrides=["train.batch=4"],
    )
    train = loaded.settings.train
    assert (train.batch, train.seed, train.epochs, train.sequence) == (4, 3, 2, 96)
    path = tmp_path / "forecast.toml"
    assert loaded.origin("train.batch") == "--set"
    assert loaded.origin("train.seed") == "$FORECAST__TRAIN__SEED"
    assert loaded.origin("train.epochs") == f"{path}:6"
    assert loaded.origin("train.sequence") == "default"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.id=station", "station"),
        ('data.id="station"', "station"),
        ("data.id = a=b", "a=b"),
    ],
)
def test_set_takes_bare_text(tmp_path: Path, override: str, value: str) -> None:
    assert _load(tmp_path, MINIMAL, overrides=[override]).settings.data.id == value


def test_set_takes_lists_and_numbers(tmp_path: Path) -> None:
    overrides = ["data.past=['a','b']", "train.lr=1e-3", "split.test=30d", "split.valid=100"]
    settings = _load(tmp_path, MINIMAL, overrides=overrides).settings
    assert (settings.data.past, settings.train.lr) == (["a", "b"], 1e-3)
    assert (settings.split.test, settings.split.valid) == ("30d", 100)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.lr", "write key=value"),
        ("train.lrr=1", "did you mean 'lr'"),
        ("data.path.x=1", "is a value, not a table"),
        ("train.lr=-1", "--set"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, words: str) -> None:
    [problem] = _problems(tmp_path, MINIMAL, overrides=[override])
    assert words in problem


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    [problem] = _problems(tmp_path, MINIMAL, environment={"FORECAST__TRAIN__BATCH": "0"})
    assert problem.startswith("$FORECAST__TRAIN__BATCH: ")


def test_loading_changes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = _write(tmp_path, MINIMAL + '[run]\ndir = "results"\n')
    load(TrainConfig, path, environment={})
    assert list(tmp_path.iterdir()) == [path]


def test_paths_start_at_the_config(tmp_path: Path) -> None:
    loaded = _load(tmp_path, MINIMAL)
    assert loaded.resolve("x.parquet") == tmp_path / "x.parquet"
    assert loaded.resolve("/x") == Path("/x")
    assert loaded.resolve("~/x") == Path.home() / "x"


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = _load(tmp_path, MINIMAL).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.data = DataSettings(path="y")


class Clocks(Settings):
    """A table with durations."""

    every: Duration = 5.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h", 3600), ("2 d", 172800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert Clocks.model_validate({"every": text}).every == seconds
    assert Clocks.model_validate({"every": 7}).every == 7.0


@pytest.mark.parametrize("text", ["5", "5 parsecs", "fast", "", "-1s", "0s", "1.2.3s", True])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="every"):
        Clocks.model_validate({"every": text})


names = st.text(min_size=1, max_size=12)
trees = st.fixed_dictionaries(
    {"data": st.builds(lambda path: {"path": path}, names)},
    optional={
        "train": st.fixed_dictionaries(
            {},
            optional={
                "lr": st.floats(1e-9, 10),
                "batch": st.integers(1, 65536),
                "mode": st.sampled_from(["lanes", "windows"]),
            },
        ),
        "network": st.fixed_dictionaries(
            {"head": st.builds(lambda x: {"levels": x}, st.lists(st.integers(1, 99), min_size=1))}
        ),
    },
)


@given(trees)
def test_what_toml_says_is_what_the_settings_hold(tmp_path: Path, tree: dict[str, Any]) -> None:
    settings = _load(tmp_path, tomlkit.dumps(tree)).settings
    assert settings.model_dump(exclude_unset=True) == tree


@pytest.mark.parametrize(
    ("mode", "split", "by"),
    [
        ("sequences", "", "series"),
        ("lanes", "", "time"),
        ("sequences", "[split]\ngap = 1\n", "time"),
    ],
)
def test_answers_of_whole_series_are_split_by_series(
    mode: str, split: str, by: str, tmp_path: Path
) -> None:
    data = '[data]\npath = "x.parquet"\nid = "a"\npast = ["b"]\n'
    text = f'{data}{split}[task]\nkind = "classification"\n[train]\nmode = "{mode}"\n'
    assert _load(tmp_path, text).settings.split.by == by
