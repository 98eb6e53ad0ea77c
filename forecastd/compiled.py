"""Functions over arrays that numba compiles to machine code on their first call.

No compiler is needed on the user's machine, and the code is kept on disk for the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function that runs without the interpreter's lock.

    Where no folder for the machine code can be written, it is compiled anew at each start.
    """
    try:
        made = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no place for its cache
        made = numba.njit(nogil=True)(function)
    return cast("_Function", made)


def inlined(function: _Function) -> _Function:
    """Make a function part of the compiled functions that call it.

    For small leaves that take arrays: each real call would count references to them.
    """
    return cast("_Function", numba.njit(inline="always")(function))
