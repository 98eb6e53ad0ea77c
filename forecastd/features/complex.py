"""Complex numbers as twice as many real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def split_complex(values: NDArray[Any]) -> NDArray[np.floating]:
    """Return the real parts [..., C] and after them the imaginary parts, [..., 2 C] together.

    Real numbers have zeros for imaginary parts. complex64 gives float32, complex128 float64, a real
    type stays; whole numbers become float64.
    """
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.inexact):
        array = array.astype(np.float64)
    return np.concatenate([array.real, array.imag], axis=-1)
