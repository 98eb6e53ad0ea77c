from __future__ import annotations

import numpy as np
import pytest

from forecastd.features.complex import split_complex


@pytest.mark.shows("S18")
@pytest.mark.parametrize(("kind", "real"), [("c8", "f4"), ("c16", "f8")])
def test_real_parts_come_before_imaginary_parts(kind: str, real: str) -> None:
    values = np.array([[1 + 2j, 3 - 4j], [0.5j, -6]], kind)
    found = split_complex(values)
    assert found.dtype == real
    assert found.tolist() == [[1, 3, 2, -4], [0, -6, 0.5, 0]]


@pytest.mark.shows("S18")
@pytest.mark.parametrize(("kind", "real"), [("f4", "f4"), ("f8", "f8"), ("i4", "f8")])
def test_real_numbers_have_zeros_for_imaginary_parts(kind: str, real: str) -> None:
    found = split_complex(np.array([[1, 2, 3]], kind))
    assert found.dtype == real
    assert found.tolist() == [[1, 2, 3, 0, 0, 0]]
