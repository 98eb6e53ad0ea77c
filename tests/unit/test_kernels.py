from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from forecastd.features.calendar import CLOCKS
from forecastd.runtime.kernels import activations, times
from forecastd.runtime.kernels.program import _FREQUENCIES, CLOCK_KINDS
from forecastd.runtime.kernels.vectors import (
    LANES,
    flush_denormals,
    load,
    restore_denormals,
    spread,
    store,
)
from forecastd.series import Frequency

FIRST_US = -62_135_596_800_000_000
LAST_US = 253_402_300_799_000_000
STAMPS = st.integers(FIRST_US, LAST_US // 2)
FREQUENCIES = st.sampled_from(["1s", "15min", "1h", "1d", "1w", "1mo", "1q", "1y", "3", "1"])


def _tanh(x: Any) -> Any:
    p, q = activations.tanh_parts(x)
    return p / q


def _sigmoid(x: Any) -> Any:
    p, q = activations.sigmoid_of_twice(x * spread(np.float32(0.5)))
    return p / q


def _everywhere(function: Callable[[Any], Any]) -> Callable[[NDArray[np.float32]], Any]:
    """Return a function of vectors as one of arrays whose length LANES divides."""
    compiled = function if hasattr(function, "py_func") else numba.njit(function)

    @numba.njit
    def loop(source: int, target: int, count: int) -> None:
        for index in range(0, 4 * count, 4 * LANES):
            store(target + index, compiled(load(source + index)))

    def apply(values: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = np.zeros(-(-len(values) // LANES) * LANES, np.float32)
        padded[: len(values)] = values
        out = np.zeros_like(padded)
        loop(padded.ctypes.data, out.ctypes.data, len(padded))
        return out[: len(values)]

    return apply


def _all_magnitudes() -> NDArray[np.float32]:
    """Return every 4,001st float32 there is, without NaN, and the interesting ones."""
    values = np.arange(0, 1 << 32, 4001, np.uint64).astype(np.uint32).view(np.float32)
    ends = np.array([0.0, -0.0, np.inf, -np.inf, 7.9, -7.9, 1e-45], np.float32)
    return np.concatenate([values[~np.isnan(values)], ends])


def test_tanh_and_sigmoid_are_within_a_millionth_everywhere() -> None:
    x = _all_magnitudes()
    exact = x.astype(np.float64)
    tanh, sigmoid = _everywhere(_tanh)(x), _everywhere(_sigmoid)(x)
    assert np.abs(tanh - np.tanh(exact)).max() < 4e-7
    with np.errstate(over="ignore"):
        assert np.abs(sigmoid - 1 / (1 + np.exp(-exact))).max() < 4e-7
    assert np.abs(tanh).max() <= 1
    assert sigmoid.min() >= 0
    assert sigmoid.max() <= 1


def test_softplus_is_relatively_exact() -> None:
    x = np.concatenate([np.linspace(-80, 100, 200_001), [0.0, 1e-30, -1e-30, 1e30]])
    x = x.astype(np.float32)
    expected = np.logaddexp(0, x.astype(np.float64))
    assert (np.abs(_everywhere(activations.softplus)(x) - expected) / expected).max() < 1e-6


def test_denormals_are_zero_between_flush_and_restore() -> None:
    @numba.njit
    def halves(values: NDArray[np.float32]) -> tuple[float, float]:
        before = flush_denormals()
        flushed = values[0] * values[1]
        restore_denormals(before)
        return flushed, values[0] * values[1]

    flushed, kept = halves(np.array([2e-38, 0.1], np.float32))
    assert flushed == 0 < kept


@given(st.sampled_from(sorted(CLOCKS)), STAMPS, FREQUENCIES, st.integers(1, 400))
def test_clocks_stand_where_numpy_puts_them(name: str, time: int, text: str, season: int) -> None:
    frequency = Frequency.parse(text)
    expected = CLOCKS[name](np.array([time]), frequency, season)[0]
    kind = _FREQUENCIES[frequency.kind]
    phase = times.clock_phase(CLOCK_KINDS[name], time, kind, frequency.size, season)
    assert phase == pytest.approx(expected, abs=1e-12)


@given(STAMPS, st.integers(0, 400), FREQUENCIES)
def test_stamps_advance_as_frequencies_do(time: int, steps: int, text: str) -> None:
    frequency = Frequency.parse(text)
    expected = int(frequency.advance(np.array([time]), steps)[0])
    assert times.advance(time, steps, _FREQUENCIES[frequency.kind], frequency.size) == expected


@given(STAMPS, st.integers(1, 1 << 50), FREQUENCIES)
def test_steps_are_counted_as_frequencies_do(earlier: int, more: int, text: str) -> None:
    frequency = Frequency.parse(text)
    later = min(earlier + more, LAST_US)
    expected = int(frequency.steps_between(np.array([earlier]), np.array([later]))[0])
    kind = _FREQUENCIES[frequency.kind]
    assert times.steps_between(earlier, later, kind, frequency.size) == expected
