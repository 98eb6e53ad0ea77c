"""`make examples`, in small: two examples whose data are made up reach their goals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("e9_addition", marks=pytest.mark.shows("S121")),
        pytest.param("e10_letters", marks=pytest.mark.shows("S122")),
    ],
)
def test_an_example_reaches_its_goal(name: str, project: Path) -> None:
    command = [sys.executable, str(project / "examples" / "run.py"), name, "--seeds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    assert name in line
    assert " reached " in line
