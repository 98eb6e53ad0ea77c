"""The first command of the readme."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forecast_cli.demo import DAEMON
from forecastd.daemon.settings import load_settings


def test_the_daemon_of_the_demo_has_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "forecastd.toml"
    path.write_text(DAEMON.format(model="somewhere"), encoding="utf-8")
    assert load_settings(path).settings.model.path == "somewhere"


@pytest.mark.slow
@pytest.mark.process
def test_the_demo_trains_streams_and_beats_the_last_value(project: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "forecast_cli.demo", "--folder", str(tmp_path / "demo")],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    mae = {" ".join(words[:-4]): float(words[-4]) for words in rows if "".join(words[:1]) in _ROWS}
    assert mae["model"] < mae["last value"] < mae["seasonal naive"]
    assert "each with a forecast of 24 hours" in done.stdout


_ROWS = {"model", "last", "seasonal"}
"""The first words of the rows of the table that compares."""
