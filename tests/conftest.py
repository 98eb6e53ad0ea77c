"""What all tests share: where the project is, running its commands, repeatable properties."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every machine and no limit on time: a slow machine is not a failure.
settings.register_profile(
    "project",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("project")

Completed = subprocess.CompletedProcess[str]
RunForecast = Callable[..., Completed]


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def run_forecast(tmp_path: Path) -> RunForecast:
    """Run `python -m forecast_cli ARGUMENTS` in an empty folder, its crash files kept there."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> Completed:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FORECAST")
        }
        environment |= {"FORECAST_CRASH_DIR": str(tmp_path), "TERM": "dumb", **variables}
        return subprocess.run(
            [sys.executable, "-m", "forecast_cli", *arguments],
            cwd=tmp_path,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
