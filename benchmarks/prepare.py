"""Rows a second of `prepare` on m5, in order and shuffled, once and eight times over.

Beside them the machine's own limits: polars reading the same columns, and a copy in memory. Each
preparation runs in a process of its own, whose anonymous memory (RssAnon) is sampled.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from measure import keep, median_s
from pyarrow import parquet

from forecastd.config import DataSettings
from forecastd.data.store import prepare

M5 = Path(__file__).resolve().parents[2] / "shared" / "data" / "m5_train.parquet"
SAMPLE_S = 0.02
ROWS_AT_ONCE = 1 << 18


def rss_anon_mb() -> float:
    """Return the anonymous memory of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("RssAnon"))


def prepare_once(path: Path, memory_mb: int) -> dict[str, Any]:
    """Prepare a file in this process and return seconds, rows and peak memory."""
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            peak[0] = max(peak[0], rss_anon_mb())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    data = DataSettings(path=str(path), id="unique_id", static=["store", "dept"])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        started = time.perf_counter()
        store = prepare(data, Path(), Path(folder) / "store", memory_bytes=memory_mb << 20)
        seconds = time.perf_counter() - started
    done.set()
    sampler.join()
    return {"seconds": seconds, "rows": store.report.rows_read, "peak_mb": peak[0]}


def shuffled(source: Path, target: Path, times: int) -> None:
    """Write the rows of a file `times` over, each time as other series, in random order.

    Rows are dealt to parts at random, and each part is shuffled.
    """
    dice = np.random.default_rng(0)
    parts = 4 * times
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        for part in range(parts):
            (folder / str(part)).mkdir()
        for number, frame in enumerate(repeated_frames(source, times)):
            dealt = dice.integers(0, parts, frame.height)
            for part in range(parts):
                chosen = frame.filter(pl.Series(dealt == part))
                chosen.write_ipc(folder / str(part) / f"{number}.arrow")
        together = (
            pl.read_ipc(folder / str(part) / "*.arrow").sample(fraction=1, shuffle=True, seed=part)
            for part in range(parts)
        )
        write(together, target)


def repeated_frames(source: Path, times: int) -> Any:
    """Yield the rows of a file `times` over; unique_id gets a suffix, so series stay in order."""
    opened = parquet.ParquetFile(source)
    for number in range(times):
        for batch in opened.iter_batches(1 << 20):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            named = pl.format("{}_{}", pl.lit(number), pl.col("unique_id").cast(pl.String))
            yield frame.with_columns(
                unique_id=named if times > 1 else pl.col("unique_id").cast(pl.String),
                store=pl.col("store").cast(pl.String),
                dept=pl.col("dept").cast(pl.String),
            )


def write(frames: Any, target: Path) -> None:
    """Write frames into one Parquet file."""
    writer = None
    for frame in frames:
        table = frame.to_arrow()
        writer = writer or parquet.ParquetWriter(target, table.schema)
        writer.write_table(table, row_group_size=ROWS_AT_ONCE)
    if writer is not None:
        writer.close()


def limits(path: Path) -> list[dict[str, Any]]:
    """Measure what the machine can do: read the file, and copy memory."""
    rows = parquet.read_metadata(path).num_rows
    started = time.perf_counter()
    pl.scan_parquet(path).select(pl.all().last()).collect(engine="streaming")
    read_s = time.perf_counter() - started
    block = np.ones(1 << 25)
    copy_s = median_s(block.copy, 5)
    return [
        {"what": "polars reads the columns", "mrows_s": round(rows / read_s / 1e6, 2)},
        {"what": "copy in memory", "gb_s": round(block.nbytes / copy_s / 1e9, 1)},
    ]


def main() -> None:
    """Run one preparation (with --one, for a process of its own), or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", type=Path)
    parser.add_argument("--memory", type=int, default=1024, help="MiB")
    parser.add_argument("--times", type=int, nargs="*", default=[1, 8])
    options = parser.parse_args()
    if options.one:
        print(json.dumps(prepare_once(options.one, options.memory)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for times in options.times:
            ordered, mixed = Path(name) / "sorted.parquet", Path(name) / "shuffled.parquet"
            write(repeated_frames(M5, times), ordered)
            shuffled(M5, mixed, times)
            rows += limits(mixed) if times == 1 else []
            for path in (ordered, mixed):
                for memory in (1024, 512):
                    rows.append(measured(path, memory, times))
                    print(rows[-1], flush=True)
    keep("prepare", rows)


def measured(path: Path, memory: int, times: int) -> dict[str, Any]:
    """Prepare a file in a fresh process."""
    command = [sys.executable, __file__, "--one", str(path), "--memory", str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {
        "what": f"prepare m5 x {times} {path.stem}",
        "memory_mb": memory,
        "mrows_s": round(found["rows"] / found["seconds"] / 1e6, 2),
        "seconds": round(found["seconds"], 1),
        "peak_rss_anon_mb": round(found["peak_mb"]),
    }


if __name__ == "__main__":
    main()
