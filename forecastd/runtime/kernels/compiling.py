"""How kernels are compiled: entries are kept on disk, parts melt into them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from forecastd.compiled import compiled
from forecastd.series import IntArray

_Function = TypeVar("_Function", bound=Callable[..., object])


def part(function: _Function) -> _Function:
    """Compile a function into those that call it, where its vectors stay in registers."""
    return cast("_Function", numba.njit(forceinline=True, error_model="numpy")(function))


def section(function: _Function) -> _Function:
    """Compile a function that entries call: too large to be repeated in each place."""
    return cast("_Function", numba.njit(error_model="numpy")(function))


def entry(make: Callable[[int], _Function]) -> _Function:
    """Compile what Python calls, and keep it on disk until any source of the kernels changes.

    make: takes a number that the function mentions and returns the function. numba keys its cache
    by the entry's own code and such numbers, and does not see a change in what the entry calls.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).digest()
    return compiled(make(int.from_bytes(digest[:7], "little")))


def direct(entry_point: Callable[..., None]) -> Callable[[IntArray, int], None]:
    """Return an entry as a plain function of a table and a count, compiled if need be.

    The types of arguments are then not looked at in each call, which takes as long as a small step.
    """
    function: Any = entry_point
    kinds = (numba.types.Array(numba.types.int64, 1, "C"), numba.types.int64)
    function.compile(kinds)
    return cast("Callable[[IntArray, int], None]", function.get_overload(kinds))
