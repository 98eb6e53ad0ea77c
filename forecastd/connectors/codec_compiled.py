"""How codecs are compiled: entry points, their parts, and arrays without reference counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from forecastd.compiled import compiled_until_changed, once_a_type

_Function = TypeVar("_Function", bound=Callable[..., object])

Bytes = NDArray[np.uint8]

_compile: Any = njit
_intrinsic: Any = intrinsic
_pointer_type: Any = types.CPointer


def inlined(function: _Function) -> _Function:
    """Compile a part of compiled functions.

    It takes arrays as `bare`: counted ones cost more than the work.
    """
    made: _Function = once_a_type(_compile(nogil=True, forceinline=True)(function))
    return made


def entry(make: Callable[[int], _Function]) -> _Function:
    """Compile what Python calls, until a compiled part changes; see compiled_until_changed."""
    folder = Path(__file__).parent
    names = ("compiled", "print", "scan", "stamps")
    return compiled_until_changed(make, [folder / f"codec_{name}.py" for name in names])


def _bare(_typing: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return _pointer_type(array.dtype)(array), generate


bare: Callable[[Any], Any] = _intrinsic(_bare)
"""An array's elements as a pointer, to be indexed while the caller holds the array, unchecked."""
