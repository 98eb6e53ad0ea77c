"""Machine code is kept on disk, loaded without the compiler, and made where it is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = """
import numpy as np
from forecastd.compiled import compiled

@compiled
def total(values):
    found = 0.0
    for value in values:
        found += value
    return found
"""

CALLS = """
import json, sys
import numpy as np
from kept import total
found = total(np.ones(3, np.float32))
quick = "numba.np.linalg" not in sys.modules
more = total(np.ones(4, np.float64)) if "more" in sys.argv else 0
stats = total.stats
counts = sum(stats.cache_hits.values()), sum(stats.cache_misses.values())
print(json.dumps([found, more, quick, *counts]))
"""


def called(folder: Path, *arguments: str, **variables: str) -> list[Any]:
    (folder / "kept.py").write_text(SOURCE)
    done = subprocess.run(
        [sys.executable, "-c", CALLS, *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_second_start_loads_what_the_first_compiled(tmp_path: Path) -> None:
    assert called(tmp_path) == [3.0, 0, False, 0, 1]
    assert called(tmp_path) == [3.0, 0, True, 1, 0]


def test_what_is_not_on_disk_is_compiled_after_what_is(tmp_path: Path) -> None:
    called(tmp_path)
    assert called(tmp_path, "more") == [3.0, 4.0, True, 1, 1]
    assert called(tmp_path, "more") == [3.0, 4.0, True, 2, 0]
