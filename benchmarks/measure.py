"""What the benchmarks share: medians, the machine, and results on disk."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def median_s(call: Callable[[], object], repeats: int) -> float:
    """Return the median duration of a call after a warm-up."""
    for _ in range(3):
        call()
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Print rows, and keep them with the machine and the commit."""
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
        "load": round(os.getloadavg()[0], 1),
    }
    RESULTS.mkdir(exist_ok=True)
    content = json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(content, encoding="utf-8")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
