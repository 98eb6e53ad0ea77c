"""Looking at a data set takes no more memory for four times the rows, in whatever order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from forecastd.data.synthetic import synthesize

pytestmark = pytest.mark.slow

SERIES = 200
GROWTH_MB_MAX = 120
"""Of 3 million rows more; held in memory they would take 300 MB and more."""
COMMANDS = {
    "check": ["data", "check"],
    "describe": ["data", "describe"],
    "init": ["init", "--force"],
    "sort": ["data", "convert", "--force", "--sort"],
}


def peak_mb(folder: Path, *arguments: str) -> float:
    """Run a command and return the most memory it held that is no file's."""
    command = [sys.executable, "-m", "forecast_cli", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
        try:
            process.wait(timeout=0.01)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 0
    return peak / 1024


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looks")
    for rows in (1, 4):
        frame = pl.concat(synthesize("waves", SERIES, rows * 1_000_000 // SERIES, 0))
        frame.sample(fraction=1.0, shuffle=True, seed=0).write_parquet(
            folder / f"{rows}.parquet", row_group_size=100_000
        )
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_memory_does_not_grow_with_the_rows(command: str, data: Path) -> None:
    last = ["out.parquet"] if command == "sort" else []
    few, many = (peak_mb(data, *COMMANDS[command], f"{rows}.parquet", *last) for rows in (1, 4))
    assert many < few + GROWTH_MB_MAX
