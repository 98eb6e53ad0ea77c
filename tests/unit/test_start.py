"""What a start on the CPU imports: no torch, polars or pyarrow, and no HTTP nobody asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from models import example, model

from forecastd import artifact

HEAVY = {"torch", "polars", "pyarrow", "scipy", "pandas", "aiohttp", "asyncio", "rich", "tomlkit"}
LINE = '{"unique_id":"a","ds":"2013-01-01T00:00:00","y":1.5,"x":2}\n'
CONFIG = """
state_dir = "state"
[model]
path = "model"
device = "cpu"
[api]
listen = "off"
[sources.in]
type = "stdin"
[sinks.out]
type = "stdout"
"""
SCRIPT = """
import json, sys
from forecast_cli.{module} import run
try:
    run()
finally:
    loaded = sorted({{name.split(".")[0] for name in sys.modules}})
    with open("loaded.json", "w") as file:
        json.dump(loaded, file)
"""
COMMANDS = {
    "stream": ("main", ["stream", "model", "--device", "cpu", "--state", "kept"]),
    "daemon": ("service", ["run", "--config", "forecastd.toml", "--once"]),
}


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS)
def test_a_start_imports_no_more_than_it_needs(command: str, tmp_path: Path) -> None:
    module, arguments = COMMANDS[command]
    artifact.save(tmp_path / "model", model(), example())
    (tmp_path / "forecastd.toml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=module), *arguments],
        cwd=tmp_path,
        input=LINE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cutoff"] == "2013-01-01T00:00:00"
    loaded = set(json.loads((tmp_path / "loaded.json").read_text()))
    assert "numba" in loaded
    assert HEAVY & loaded == set()
