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

@compiled
def doubled(values):
    return np.concatenate((values, values * 2.0))[::-1].copy()  # takes memory of its run time
"""

CALLS = """
import json, sys
import numpy as np
from kept import doubled, total
found = total(np.ones(3, np.float32))
for size in range(1000):
    assert len(doubled(np.ones(size, np.float32))) == 2 * size
quick = "numba.np.linalg" not in sys.modules
more = total(np.ones(4, np.float64)) if "more" in sys.argv else 0
stats = total.stats
counts = sum(stats.cache_hits.values()), sum(stats.cache_misses.values())
print(json.dumps([found, more, quick, *counts]))
"""

PARTS = """
import json, sys
import numba
import numpy as np
from forecastd.compiled import compiled, once_a_type

@once_a_type
@numba.njit(forceinline=True)
def squared(value):
    return value * value

@once_a_type
@numba.njit
def total_of_squares(values):
    found = 0.0
    for value in values:
        found += squared(value)
    return found

@compiled
def rooted(values):
    return np.sqrt(total_of_squares(values))

@compiled
def whole(values):
    return rooted(values) + squared(values[0])

def kinds(function):
    return [type(each.library).__name__ for each in function.overloads.values()]

values = np.array([3.0, 4.0])
found = whole(values), rooted(values), total_of_squares(values), squared(3.0), squared(2.0)
print(json.dumps([found, kinds(squared), kinds(total_of_squares), kinds(rooted), kinds(whole)]))
"""

TELLING = """
import json
import numpy as np
from forecastd.compiled import announce_compiling
told = []
announce_compiling(told.append)
from kept import total
total(np.ones(3, np.float32)), total(np.ones(3, np.float64))
print(json.dumps(told))
"""


def called(folder: Path, *arguments: str, script: str = CALLS, **variables: str) -> list[Any]:
    (folder / "kept.py").write_text(SOURCE)
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
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


def test_compiling_is_told_once_and_loading_is_not(tmp_path: Path) -> None:
    (told,) = called(tmp_path, script=TELLING)
    assert told.startswith("compiling for this machine, once; ")
    assert called(tmp_path, script=TELLING) == []


def test_where_nothing_can_be_kept_it_says_what_to_do(tmp_path: Path) -> None:
    taken = tmp_path / "__pycache__"
    taken.write_text("a file where the folder should be")
    home = tmp_path / "home"
    home.write_text("a file too")
    for _ in range(2):
        (told,) = called(tmp_path, script=TELLING, HOME=str(home), XDG_CACHE_HOME=str(home))
        assert "at each start unless NUMBA_CACHE_DIR names a folder" in told


def test_what_compiled_functions_call_is_compiled_into_them_only(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    found, *kinds = called(tmp_path, script="import parts", NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert found == [14.0, 5.0, 25.0, 9.0, 4.0]
    assert kinds == [["_Part"], ["_Part"], ["JITCodeLibrary"], ["JITCodeLibrary"]]
    again, *kinds = called(tmp_path, script="import parts", NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert again == found
    assert kinds[2:] == [["_Loaded"], ["_Loaded"]]


def test_what_is_compiled_anew_may_call_what_is_on_disk(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    first, *_ = called(tmp_path, script="import parts", NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    for each in (tmp_path / "kept").rglob("*whole*"):
        each.unlink()
    found, *kinds = called(tmp_path, script="import parts", NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert found == first
    assert kinds[2:] == [["_Loaded"], ["JITCodeLibrary"]]
