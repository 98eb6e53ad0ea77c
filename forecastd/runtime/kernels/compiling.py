"""How kernels are compiled: entries are kept on disk, parts melt into them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from forecastd.compiled import compiled_until_changed, once_a_type
from forecastd.series import IntArray

_Function = TypeVar("_Function", bound=Callable[..., object])


def part(function: _Function) -> _Function:
    """Compile a function into those that call it, where its vectors stay in registers."""
    made = numba.njit(forceinline=True, error_model="numpy")(function)
    return cast("_Function", once_a_type(made))


def section(function: _Function) -> _Function:
    """Compile a function that entries call: too large to be repeated in each place."""
    return cast("_Function", once_a_type(numba.njit(error_model="numpy")(function)))


def entry(make: Callable[[int], _Function]) -> _Function:
    """Compile what Python calls, until any source of the kernels changes.

    See compiled_until_changed.
    """
    return compiled_until_changed(make, sorted(Path(__file__).parent.glob("*.py")))


def direct(entry_point: Callable[..., None]) -> Callable[[IntArray, int], None]:
    """Return an entry as a plain function of a table and a count, compiled if need be.

    The types of arguments are then not looked at in each call, which takes as long as a small step.
    """
    function: Any = entry_point
    kinds = (numba.types.Array(numba.types.int64, 1, "C"), numba.types.int64)
    function.compile(kinds)
    return cast("Callable[[IntArray, int], None]", function.get_overload(kinds))
