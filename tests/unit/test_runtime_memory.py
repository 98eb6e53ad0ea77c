"""What a million series take; in processes of their own, so that nothing else is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MILLION = 1_000_000
ROW_BYTES = 560
LIVE_BYTES_MAX = int(0.7 * 2**30)
FREE_BYTES_MIN = 4 << 30

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from forecastd.runtime import checkpoint
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.checkpoint import Checkpoint
from forecastd.series import Keys

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

def highest():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

layout = row_layout({"state": (np.dtype(np.float32), (136,))})
assert layout.itemsize == %(row)d
Arena(layout, 10, blank_row(layout)).claim(Keys.of(["warm"]))
before, figures = anonymous(), {}
arena = Arena(layout, 2 * %(million)d, blank_row(layout))
figures["reserved"] = anonymous() - before
for start in range(0, %(million)d, 4096):
    keys = Keys.of(f"series-{n:07d}" for n in range(start, min(start + 4096, %(million)d)))
    slots, new = arena.claim(keys)
    assert len(new) == len(keys)
    arena.rows["state"][slots] = 1.0
    arena.mark(slots)
figures["live"] = anonymous() - before
Path("/proc/self/clear_refs").write_text("5")  # the highest is counted anew
resident = highest()
path = Path(sys.argv[1]) / "checkpoint"
checkpoint.save(path, Checkpoint("d", arena.view(), {}))
figures["saving"] = highest() - resident
del arena
again = Arena(layout, %(million)d, blank_row(layout))
empty = anonymous()
found = checkpoint.load(path, layout)
again.restore(found.snapshot)
figures["restored"] = anonymous() - empty
assert len(again) == %(million)d
assert again.find("series-0999999") == 999_999
print(json.dumps(figures))
"""


def free_bytes() -> int:
    text = Path("/proc/meminfo").read_text()
    return int(text.split("MemAvailable:")[1].split()[0]) * 1024


@pytest.mark.process
def test_a_million_series(tmp_path: Path) -> None:
    if free_bytes() < FREE_BYTES_MIN:
        pytest.skip("needs 4 GB of free memory")
    script = SCRIPT % {"row": ROW_BYTES, "million": MILLION}
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["reserved"] < 32 << 20
    assert figures["live"] <= LIVE_BYTES_MAX
    assert figures["saving"] <= 0.15 * ROW_BYTES * MILLION
    assert figures["restored"] <= LIVE_BYTES_MAX
