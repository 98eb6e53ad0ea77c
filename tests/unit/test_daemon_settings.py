"""forecastd.toml: what is accepted, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from forecastd.connectors.file import FileSinkSettings
from forecastd.connectors.socket import TcpSettings
from forecastd.daemon.settings import DaemonSettings, Places, load_settings
from forecastd.errors import ConfigError

GOOD = """
state_dir = "state"
[model]
path = "model"
[sources.meters]
type = "tcp"
[sinks.answers]
type = "reply"
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "forecastd.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return [problem.removeprefix(str(path)) for problem in caught.value.problems]


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "forecastd.toml"
    path.write_text(GOOD)
    loaded = load_settings(path)
    settings, places = loaded.settings, Places(loaded)
    assert settings.checkpoint.every == 5.0
    assert settings.model.series_max == 100_000
    assert settings.sources["meters"] == TcpSettings(type="tcp", listen="127.0.0.1:8798")
    assert places.state_dir == tmp_path / "state"
    assert places.api_socket == tmp_path / "state" / "api.sock"
    assert places.dead_letter == tmp_path / "state" / "rejects.ndjson"
    assert places.model == tmp_path / "model"


def test_the_example_is_valid(project: Path) -> None:
    settings = load_settings(project / "systemd" / "forecastd.toml").settings
    assert settings.sources
    assert settings.sinks


def test_overrides_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "forecastd.toml"
    path.write_text(GOOD)
    monkeypatch.setenv("FORECASTD__CHECKPOINT__EVERY", "30s")
    monkeypatch.setenv("FORECASTD__LIMITS__BATCH_ROWS", "10")
    settings = load_settings(path, ["limits.batch_rows=20"]).settings
    assert settings.checkpoint.every == 30.0
    assert settings.limits.batch_rows == 20


def test_all_problems_at_once_with_line_and_nearest_key(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
state_dir = "state"
[model]
path = "model"
device = "gpu"
[checkpoint]
evry = "5s"
[sources.meters]
type = "tcp"
listn = "127.0.0.1:1"
[sources.lines]
type = "file"
[sources.other]
type = "carrier pigeon"
[sinks.answers]
type = "reply"
""",
    )
    assert [line.split(":")[1] for line in found] == ["5", "7", "10", "11", "13"]
    assert "model.device" in found[0]
    assert "unknown key 'checkpoint.evry'; did you mean 'every'?" in found[1]
    assert "unknown key 'sources.meters.listn'; did you mean 'listen'?" in found[2]
    assert "key 'sources.lines.path' is missing" in found[3]
    assert "'stdin', 'file', 'tcp', 'unix'" in found[4]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('type = "tcp"', 'type = "stdin"', "there is none"),
        ('type = "tcp"', 'type = "tcp"\nlisten = "0.0.0.0:1"', "allow_remote = true"),
        ("[sinks.answers]", '[api]\nlisten = "0.0.0.0:1"\n[sinks.answers]', "allow_remote"),
        ("[sinks.answers]\n", "", "sinks"),
        (
            "[sinks.answers]",
            '[sinks.a]\ntype="file"\npath="x"\n[sinks.b]\ntype="file"\npath="x"\n[sinks.answers]',
            "same path",
        ),
        ("[model]", '[emit]\nwhen = "interval"\n[model]', 'such as every = "10s"'),
        ("[model]", "[emit]\nevery = 5\n[model]", "steps counts steps"),
        ("[model]", '[emit]\nwhen = "last"\nsteps = 2\n[model]', 'steps is for when = "step"'),
        ("[model]", '[emit]\nwhen="interval"\nevery="1s"\n[model]', "answer no client"),
        (
            'path = "model"',
            'path = "model"\nwhen_full = "evict"\n[emit]\nwhen = "interval"\nevery = "1s"',
            'set model.when_full = "refuse"',
        ),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = GOOD.replace(old, new) if new else GOOD.split(old)[0]
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert words in found[0]


def test_only_one_source_can_have_standard_input() -> None:
    tree = {
        "state_dir": "state",
        "model": {"path": "model"},
        "sources": {"a": {"type": "stdin"}, "b": {"type": "stdin"}},
        "sinks": {"out": {"type": "file", "path": "x"}},
    }
    with pytest.raises(ValueError, match="one name only"):
        DaemonSettings.model_validate(tree)
    del tree["sources"]["b"]
    settings = DaemonSettings.model_validate(tree)
    assert settings.sinks["out"] == FileSinkSettings(type="file", path="x")
