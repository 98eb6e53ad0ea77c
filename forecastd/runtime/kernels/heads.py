"""The head of a block: what it says of the last layer's output, in the units of the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from forecastd.network.outputs import SPREAD_MIN
from forecastd.runtime.kernels.activations import softmax, softplus
from forecastd.runtime.kernels.compiling import part, section
from forecastd.runtime.kernels.table import (
    ABOVE,
    BELOW,
    BLOCK_AT,
    BLOCK_OUT_AT,
    BLOCK_ROWS,
    BLOCK_WORDS,
    CENTRE_AT,
    CLASSES,
    DENSE_BIAS_AT,
    DENSE_INPUTS,
    DENSE_OUT_AT,
    DENSE_OUTPUTS,
    DENSE_WEIGHTS_AT,
    FEW_OUTPUTS,
    HEAD_INPUT_AT,
    HEAD_KIND,
    HEAD_ROWS_AT,
    HEAD_STRIDE,
    HORIZON,
    LEVELS,
    LEVELS_AT,
    LOCATION_AT,
    NORMAL,
    QUANTILES,
    RESPONSES_AT,
    SPREAD_AT,
    STEPS_AT,
)
from forecastd.runtime.kernels.tiles import PANEL, multiply
from forecastd.runtime.kernels.vectors import (
    LANES,
    VECTOR_BYTES,
    fma,
    load,
    read_f32,
    read_f64,
    read_i64,
    spread,
    store,
    sum_lanes,
    write_f32,
)
from forecastd.series import IntArray

_PANEL_ROWS_BYTES = 4 * BLOCK_ROWS * PANEL


@section
def run_head(p: IntArray, count: int) -> None:
    """Forecast from the first `count` rows of the head's input."""
    if p[CENTRE_AT] != 0:
        _dense(p, p[CENTRE_AT], count)
    if p[STEPS_AT] != 0:
        _dense(p, p[STEPS_AT], count)
        _soften(p[STEPS_AT], count)
    for place in range(count):
        block = p[BLOCK_AT] + 8 * BLOCK_WORDS * read_i64(p[HEAD_ROWS_AT], place)
        out = read_i64(block, BLOCK_OUT_AT)
        if p[HEAD_KIND] == QUANTILES:
            _write_quantiles(p, place, out)
        elif p[HEAD_KIND] == NORMAL:
            _write_normal(p, place, out)
        else:
            _write_answer(p, place, out)


@part
def _output(words: int, place: int, index: int) -> Any:
    """Return output `index` of row `place` of a dense map."""
    panel = read_i64(words, DENSE_OUT_AT) + _PANEL_ROWS_BYTES * (index // PANEL)
    return read_f32(panel + 4 * PANEL * place, index % PANEL)


@section
def _dense(p: IntArray, words: int, count: int) -> None:
    """Map `count` rows of the head's input to [panels, BLOCK_ROWS, PANEL]."""
    if read_i64(words, DENSE_OUTPUTS) <= FEW_OUTPUTS:
        for place in range(count):
            _dots(p, words, place)
        return
    depth, stride = read_i64(words, DENSE_INPUTS), p[HEAD_STRIDE]
    weights, bias = read_i64(words, DENSE_WEIGHTS_AT), read_i64(words, DENSE_BIAS_AT)
    out = read_i64(words, DENSE_OUT_AT)
    for _ in range(0, read_i64(words, DENSE_OUTPUTS), PANEL):
        multiply((weights, bias), (p[HEAD_INPUT_AT], stride, depth), count, out)
        weights += 4 * PANEL * depth
        bias += 4 * PANEL
        out += _PANEL_ROWS_BYTES


@part
def _dots(p: IntArray, words: int, place: int) -> None:
    """Compute few outputs of one row, each as a dot product over padded inputs."""
    depth = read_i64(words, DENSE_INPUTS)
    values = p[HEAD_INPUT_AT] + 4 * p[HEAD_STRIDE] * place
    out = read_i64(words, DENSE_OUT_AT) + 4 * PANEL * place
    padded = (depth + LANES - 1) // LANES * LANES
    for output in range(read_i64(words, DENSE_OUTPUTS)):
        weights = read_i64(words, DENSE_WEIGHTS_AT) + 4 * padded * output
        total = spread(np.float32(0))
        for index in range(0, 4 * padded, VECTOR_BYTES):
            total = fma(load(values + index), load(weights + index), total)
        bias = read_f32(read_i64(words, DENSE_BIAS_AT), output)
        write_f32(out, output, sum_lanes(total) + bias)


@part
def _soften(words: int, count: int) -> None:
    """Replace the outputs of a dense map by their softplus."""
    panel = read_i64(words, DENSE_OUT_AT)
    for _ in range(0, read_i64(words, DENSE_OUTPUTS), PANEL):
        for offset in range(0, 4 * PANEL * count, VECTOR_BYTES):
            store(panel + offset, softplus(load(panel + offset)))
        panel += _PANEL_ROWS_BYTES


@part
def _centre(p: IntArray, place: int, index: int) -> Any:
    """Return number `index` of the centre of row `place`."""
    if p[CENTRE_AT] == 0:
        return read_f32(p[HEAD_INPUT_AT] + 4 * p[HEAD_STRIDE] * place, index)
    return _output(p[CENTRE_AT], place, index)


@part
def _write_normal(p: IntArray, place: int, out: int) -> None:
    """Write [horizon, Q] quantiles of a normal distribution, unscaled in float64."""
    location, width = read_f64(p[LOCATION_AT], place), read_f64(p[SPREAD_AT], place)
    for step in range(p[HORIZON]):
        centre = _centre(p, place, step)
        deviation = _output(p[STEPS_AT], place, step) + np.float32(SPREAD_MIN)
        for level in range(p[LEVELS]):
            value = np.float64(centre + deviation * read_f32(p[LEVELS_AT], level))
            write_f32(out, step * p[LEVELS] + level, np.float32(value * width + location))


@part
def _write_answer(p: IntArray, place: int, out: int) -> None:
    """Write the responses in the units of the data, or the shares of classes."""
    for index in range(p[HORIZON]):
        write_f32(out, index, _centre(p, place, index))
    if p[HEAD_KIND] == CLASSES:
        softmax(out, out, p[HORIZON])
        return
    for index in range(p[HORIZON]):
        scale = p[RESPONSES_AT] + 8 * index
        write_f32(out, index, read_f32(out, index) * read_f32(scale, 1) + read_f32(scale, 0))


@part
def _write_quantiles(p: IntArray, place: int, out: int) -> None:
    """Write [horizon, Q] in rising order of quantile, unscaled in float64."""
    location, width = read_f64(p[LOCATION_AT], place), read_f64(p[SPREAD_AT], place)
    below, above = p[BELOW], p[ABOVE]
    quantiles = below + 1 + above
    for step in range(p[HORIZON]):
        target = out + 4 * quantiles * step
        median = _centre(p, place, step)
        write_f32(target, below, np.float32(np.float64(median) * width + location))
        away = np.float32(0)
        for number in range(below):
            away += _output(p[STEPS_AT], place, step * (below + above) + number)
            value = np.float64(median - away) * width + location
            write_f32(target, below - 1 - number, np.float32(value))
        away = np.float32(0)
        for number in range(above):
            away += _output(p[STEPS_AT], place, step * (below + above) + below + number)
            value = np.float64(median + away) * width + location
            write_f32(target, below + 1 + number, np.float32(value))
