"""tanh, sigmoid and softplus of vectors, and softmax.

tanh is x P(x^2) / Q(x^2) of degrees 3 and 4, fitted to |x| <= 7.9 by minimising the largest error;
beyond, it is constant. Error below 4e-7 for every float32. Numerator and denominator are
returned apart, so that a cell divides twice and not five times.
"""

from __future__ import annotations

import math

import numpy as np

from forecastd.runtime.kernels.compiling import part
from forecastd.runtime.kernels.vectors import (
    Vector,
    fma,
    larger,
    magnitude,
    power_of_two,
    read_f32,
    rounded,
    smaller,
    spread,
    write_f32,
)

_LIMIT = np.float32(7.9)
_P0, _P1, _P2, _P3 = np.array(
    [9.999994258e-01, 1.292268578e-01, 2.948511927e-03, 1.141468155e-05], np.float32
)
_Q1, _Q2, _Q3, _Q4 = np.array(
    [4.625580633e-01, 2.380351329e-02, 2.383954557e-04, 2.457241746e-07], np.float32
)
_ONE, _TWO = np.float32(1), np.float32(2)
_EXP_LOWEST = np.float32(-87)
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_E2, _E3, _E4, _E5, _E6 = (np.float32(1 / n) for n in (2, 6, 24, 120, 720))
_L1, _L2, _L3, _L4, _L5, _L6 = (np.float32(2 / n) for n in (3, 5, 7, 9, 11, 13))


@part
def tanh_parts(x: Vector) -> tuple[Vector, Vector]:
    """Return numerator and denominator of tanh x; the denominator is at least 1."""
    x = larger(smaller(x, spread(_LIMIT)), spread(-_LIMIT))
    square = x * x
    q = fma(spread(_Q4), square, spread(_Q3))
    p = fma(spread(_P3), square, spread(_P2))
    q = fma(q, square, spread(_Q2))
    p = fma(p, square, spread(_P1))
    q = fma(q, square, spread(_Q1))
    p = fma(p, square, spread(_P0))
    q = fma(q, square, spread(_ONE))
    return p * x, q


@part
def sigmoid_of_twice(x: Vector) -> tuple[Vector, Vector]:
    """Return numerator and denominator of the sigmoid of 2 x, which is 1/2 + tanh(x) / 2."""
    p, q = tanh_parts(x)
    return p + q, q + q


@part
def exp_of_negative(x: Vector) -> Vector:
    """Return e^x for x <= 0, relative error below 3e-7; below -87 it stays at e^-87."""
    x = larger(x, spread(_EXP_LOWEST))
    n = rounded(x * spread(_LOG2_E))
    r = fma(n, spread(-_LN2_LOW), fma(n, spread(-_LN2_HIGH), x))
    series = fma(spread(_E6), r, spread(_E5))
    series = fma(series, r, spread(_E4))
    series = fma(series, r, spread(_E3))
    series = fma(series, r, spread(_E2))
    series = fma(series, r, spread(_ONE))
    return fma(series, r, spread(_ONE)) * power_of_two(n)


@part
def softplus(x: Vector) -> Vector:
    """Return log(1 + e^x), relative error below 1e-6.

    As max(x, 0) + log(1 + t) with t = e^-|x|, and log(1 + t) = 2 artanh(t / (2 + t)).
    """
    t = exp_of_negative(spread(np.float32(0)) - magnitude(x))
    s = t / (t + spread(_TWO))
    square = s * s
    series = fma(spread(_L6), square, spread(_L5))
    series = fma(series, square, spread(_L4))
    series = fma(series, square, spread(_L3))
    series = fma(series, square, spread(_L2))
    series = fma(series, square, spread(_L1))
    series = fma(series, square, spread(_TWO))
    return larger(x, spread(np.float32(0))) + series * s


@part
def softmax(source: int, target: int, count: int) -> None:
    """Write the shares e^x / sum e^x of some float32, which may be in their place."""
    largest = read_f32(source, 0)
    for index in range(1, count):
        largest = max(largest, read_f32(source, index))
    total = 0.0
    for index in range(count):
        power = math.exp(np.float64(read_f32(source, index) - largest))
        total += power
        write_f32(target, index, np.float32(power))
    for index in range(count):
        write_f32(target, index, np.float32(np.float64(read_f32(target, index)) / total))
