from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "polars", "pyarrow", "numpy", "pydantic", "aiohttp"}

HELP_SCRIPT = """
import json, sys, time
started = time.perf_counter()
sys.argv = ["forecast", "--help"]
from forecast_cli.main import run
try:
    run()
except SystemExit as end:
    code = end.code
loaded = sorted({name.split(".")[0] for name in sys.modules})
seconds = time.perf_counter() - started
print(json.dumps({"code": code, "loaded": loaded, "seconds": seconds}), file=sys.stderr)
"""


def test_help_imports_nothing_heavy(tmp_path: Path, record_property) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    seen = json.loads(done.stderr)
    record_property("help_seconds", seen["seconds"])  # for reading, not for judging
    sys.stderr.write(f"forecast --help took {seen['seconds']:.2f} s\n")
    assert seen["code"] == 0
    assert "doctor" in done.stdout
    assert "typer" in seen["loaded"]
    assert HEAVY & set(seen["loaded"]) == set()


def test_version_is_the_packages(run_forecast) -> None:
    from forecastd import __version__

    done = run_forecast("--version")
    assert (done.returncode, done.stdout) == (0, f"forecast {__version__}\n")


def test_no_arguments_is_help(run_forecast) -> None:
    assert "Usage: forecast" in run_forecast().stdout


@pytest.mark.parametrize(
    "arguments",
    [("confg",), ("config", "sow"), ("doctor", "--jsn"), ("config", "validate")],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_2_with_nothing_on_stdout(run_forecast, arguments) -> None:
    done = run_forecast(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error" in done.stderr


def test_the_nearest_command_is_named(run_forecast) -> None:
    assert "'doctor'" in run_forecast("docter").stderr


def test_a_wrong_command_line_is_json_where_json_is_asked_for(run_forecast) -> None:
    done = run_forecast("doctor", "--json", "--nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(done.stderr)["code"] == "USAGE_ERROR"


def test_completion_is_offered(run_forecast) -> None:
    done = run_forecast(
        _FORECAST_COMPLETE="complete_bash", COMP_WORDS="forecast doc", COMP_CWORD="1"
    )
    assert "doctor" in done.stdout


def test_the_crash_folder_is_an_option_too(run_forecast, tmp_path: Path) -> None:
    from forecast_cli import main
    from forecast_cli.failures import CRASH_FOLDER_VARIABLE

    source = f"""
import os, sys
sys.argv = ["forecast", "--crash-dir", {str(tmp_path)!r}, "config", "schema"]
from forecast_cli.main import run
try:
    run()
finally:
    print(os.environ[{CRASH_FOLDER_VARIABLE!r}], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == str(tmp_path)
    assert main.COMMANDS


def test_each_command_is_in_the_table_once() -> None:
    from forecast_cli.main import COMMANDS

    words = [entry.words for entry in COMMANDS]
    assert sorted(set(words)) == sorted(words)
