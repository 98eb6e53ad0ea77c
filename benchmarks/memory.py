"""Peak memory of preparing and training one epoch: m5, and m5 repeated under other names.

Usage: memory.py [--inputs FOLDER] [--times 1 8] [--orders sorted shuffled] [--memory MiB ...].
Each run is a process of its own that prepares and then trains the smallest useful network: a whole
epoch of the input in order and the first budget, STEPS steps otherwise. Only memory that is not a
file's (RssAnon) counts: pages of the mapped store can be dropped at will. Inputs that FOLDER has
(sorted8.parquet, ...) are not made again. Seconds are those of a machine that may be shared; memory
does not suffer from that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

from prepare import M5, SAMPLE_S, repeated_frames, rss_anon_mb, shuffled, write

ORDERS = ("sorted", "shuffled")
HIDDEN, HORIZON = 8, 4
STEPS = 100


class Peaks:
    """Samples the anonymous memory of this process; `stage` names what it is at."""

    def __init__(self) -> None:
        self.stage = "imports"
        self.found: dict[str, float] = {}
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        never = threading.Event()
        while not never.wait(SAMPLE_S):
            stage, now = self.stage, rss_anon_mb()
            self.found[stage] = max(self.found.get(stage, 0.0), now)


def once(path: Path, memory_mib: int, *, whole: bool) -> dict[str, Any]:
    """Prepare a file and train one epoch in this process; return peaks in MB and seconds."""
    peaks = Peaks()
    from forecastd.config import (
        DataSettings,
        NetworkSettings,
        SplitSettings,
        TrainConfig,
        TrainSettings,
    )
    from forecastd.data.preparing import Preparing
    from forecastd.training.run import start_run, train

    config = TrainConfig(
        data=DataSettings(
            path=str(path), id="unique_id", static=["store", "dept"], freq="1d", season=7
        ),
        split=SplitSettings(valid=28, test=28),
        network=NetworkSettings(hidden=HIDDEN, horizon=HORIZON),
        train=TrainSettings(epochs=1, batch=256, threads=1),
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        started = time.perf_counter()
        peaks.stage = "prepare"
        ready = start_run(config, Path(folder), Path(folder) / "runs", Preparing(memory_mib << 20))
        prepared = time.perf_counter()
        peaks.stage = "train"
        progress = ready.trainer.progress
        done = train(ready, lambda _: None, lambda: not whole and progress.steps >= STEPS)
        trained = time.perf_counter()
        return {
            "rows": ready.store.report.rows_read,
            "series": ready.store.series_count,
            "steps": done.outcome.progress.steps,
            "whole_epoch": done.outcome.finished,
            "prepare_s": round(prepared - started, 1),
            "train_s": round(trained - prepared, 1),
            "peak_mb": {name: round(peak) for name, peak in peaks.found.items()},
        }


def input_for(folder: Path, order: str, times: int) -> Path:
    """Return m5 `times` over, in order or shuffled; it is made where it is not there."""
    path = folder / f"{order}{times}.parquet"
    if not path.exists():
        if order == "sorted":
            write(repeated_frames(M5, times), path)
        else:
            shuffled(M5, path, times)
    return path


def main() -> None:
    """Measure every size, order and budget, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--times", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--orders", nargs="*", choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--memory", type=int, nargs="*", default=[1024, 512], help="MiB")
    parser.add_argument("--one", type=Path)
    parser.add_argument("--whole", action="store_true", help="with --one")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(once(chosen.one, chosen.memory[0], whole=chosen.whole)))
        return
    if not M5.exists():
        print(f"skipped: {M5} is not there")
        return
    from measure import keep

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.inputs or Path(name)
        for memory, order, times in product(chosen.memory, chosen.orders, chosen.times):
            path = input_for(folder, order, times)
            command = [sys.executable, __file__, "--one", str(path), "--memory", str(memory)]
            whole = order == ORDERS[0] and memory == chosen.memory[0]
            command += ["--whole"] if whole else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append({"times": times, "order": order, "memory_mib": memory} | found)
            print(rows[-1], flush=True)
            keep("memory", rows)


if __name__ == "__main__":
    main()
