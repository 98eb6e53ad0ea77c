"""Peak memory and speed of preparing and training: m5, and m5 repeated K times.

Usage: memory.py [--data FILE] [--times K] [--steps N]. Each stage runs in a process of its own.
Only memory that is not a file's (RssAnon) counts: pages of the mapped store can be dropped at will.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

PROJECT = Path(__file__).resolve().parents[1]
M5 = PROJECT.parent / "shared" / "data" / "m5_train.parquet"
SAMPLE_S = 0.02
STAGES = ("prepare", "train")


def child(stage: str, folder: Path, steps: int | None) -> None:
    """Run a stage here and print what it did as JSON."""
    from forecastd.config import DataSettings, SplitSettings, TrainConfig, TrainSettings
    from forecastd.data.store import prepare
    from forecastd.training.run import start_run, train

    data = DataSettings(
        path=str(folder / "data"), id="unique_id", static=["store", "dept"], freq="1d", season=7
    )
    started = time.perf_counter()
    if stage == "prepare":
        store = prepare(data, folder, folder / "runs" / "store" / "data")
        found: dict[str, Any] = {"rows": store.report.rows_read, "series": store.series_count}
    else:
        config = TrainConfig(
            data=data,
            split=SplitSettings(valid=28, test=28),
            train=TrainSettings(epochs=1, batch=256, threads=1),
        )
        ready = start_run(config, folder, folder / "runs")
        trainer = ready.trainer
        done = train(
            ready, lambda _: None, lambda: steps is not None and trainer.progress.steps >= steps
        )
        found = {
            "steps": done.outcome.progress.steps,
            "whole_epoch": done.outcome.finished,
            "loader_share": round(done.outcome.costs.loader, 4),
            "padding_share": round(done.outcome.costs.padding, 4),
        }
    print(json.dumps(found | {"seconds": round(time.perf_counter() - started, 1)}))


def repeated(file: Path, times: int, folder: Path) -> None:
    """Write the data set `times` times into folder/data, the copies under other names."""
    target = folder / "data"
    target.mkdir()
    for number in range(times):
        copy = pl.scan_parquet(file).with_columns(pl.col("unique_id") + f"_{number}")
        copy.sink_parquet(target / f"copy-{number}.parquet")


def watched(command: list[str]) -> dict[str, Any]:
    """Run a stage in a process and return what it printed, with its peaks in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks = {"RssAnon": 0, "RssFile": 0}
    while process.poll() is None:
        for name, size in _sizes(process.pid).items():
            peaks[name] = max(peaks.get(name, 0), size)
        try:
            process.wait(timeout=SAMPLE_S)
        except subprocess.TimeoutExpired:
            continue
    if process.returncode or process.stdout is None:
        sys.exit(f"{' '.join(command)} failed")
    found: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    return found | {f"peak_{name}_mb": round(size / 1024) for name, size in peaks.items()}


def _sizes(pid: int) -> dict[str, int]:
    """Return the resident sizes of a process in kB; nothing once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.startswith(("RssAnon", "RssFile")))
    return {name: int(size.split()[0]) for name, size in pairs}


def main() -> None:
    """Measure every stage at every size, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=M5)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--stage", choices=STAGES)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.stage:
        child(chosen.stage, chosen.folder, chosen.steps)
        return
    if not chosen.data.exists():
        print(f"skipped: {chosen.data} is not there; name another file with --data")
        return
    from measure import keep

    rows = []
    for times in sorted({1, chosen.times}):
        with tempfile.TemporaryDirectory() as name:
            repeated(chosen.data, times, Path(name))
            for stage in STAGES:
                command = [sys.executable, __file__, "--stage", stage, "--folder", name]
                command += ["--steps", str(chosen.steps)] if chosen.steps else []
                rows.append({"times": times, "stage": stage} | watched(command))
                print(rows[-1], flush=True)
    keep("memory", rows)


if __name__ == "__main__":
    main()
