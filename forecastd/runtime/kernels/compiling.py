"""How kernels are compiled: entries are kept on disk, parts melt into them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba

from forecastd.compiled import compiled

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
