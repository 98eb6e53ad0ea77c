"""Linear layers of a block: maps of what enters, and of past inputs where it is a convolution."""

from __future__ import annotations

import numpy as np

from forecastd.runtime.kernels.compiling import part, section
from forecastd.runtime.kernels.features import copy_floats
from forecastd.runtime.kernels.table import (
    BLOCK_AT,
    BLOCK_HIDDEN_AT,
    BLOCK_OUTPUT_AT,
    BLOCK_WORDS,
    GATES_AT,
    LAYER_BIAS_AT,
    LAYER_BUFFER_AT,
    LAYER_DILATION,
    LAYER_HIDDEN,
    LAYER_HIDDEN_OFFSET,
    LAYER_INPUTS,
    LAYER_RECTIFIED,
    LAYER_RECURRENT,
    LAYER_STRIDE,
    LAYER_TAPS,
    LAYER_WEIGHTS_AT,
)
from forecastd.runtime.kernels.tiles import PANEL, multiply
from forecastd.runtime.kernels.vectors import (
    VECTOR_BYTES,
    larger,
    load,
    read_i64,
    spread,
    store,
)
from forecastd.series import IntArray


@part
def gather_taps(words: int, memory: int, buffer: int) -> None:
    """Copy the past inputs that a layer reads to its buffer. memory: all it keeps, oldest first."""
    inputs, apart = read_i64(words, LAYER_INPUTS), read_i64(words, LAYER_DILATION)
    for tap in range(read_i64(words, LAYER_TAPS)):
        copy_floats(memory + 4 * inputs * (1 + tap * apart), buffer + 4 * inputs * tap, inputs)


@section
def run_linear(p: IntArray, words: int, count: int) -> None:
    """Advance the first `count` rows of the block through a linear layer."""
    inputs, before = read_i64(words, LAYER_INPUTS), read_i64(words, LAYER_RECURRENT)
    outputs, depth = read_i64(words, LAYER_HIDDEN), before + inputs
    stride, buffer = read_i64(words, LAYER_STRIDE), read_i64(words, LAYER_BUFFER_AT)
    weights, bias = read_i64(words, LAYER_WEIGHTS_AT), read_i64(words, LAYER_BIAS_AT)
    gates = p[GATES_AT]
    for first in range(0, outputs, PANEL):
        multiply((weights, bias), (buffer, stride, depth), count, gates)
        if read_i64(words, LAYER_RECTIFIED) != 0:
            for offset in range(0, 4 * PANEL * count, VECTOR_BYTES):
                store(gates + offset, larger(load(gates + offset), spread(np.float32(0))))
        some = PANEL if outputs - first > PANEL else outputs - first
        for place in range(count):
            target = read_i64(p[BLOCK_AT] + 8 * BLOCK_WORDS * place, BLOCK_OUTPUT_AT)
            copy_floats(gates + 4 * PANEL * place, target + 4 * first, some)
        weights += 4 * PANEL * depth
        bias += 4 * PANEL
    if read_i64(words, LAYER_HIDDEN_OFFSET) > 0:
        for place in range(count):
            memory = read_i64(p[BLOCK_AT] + 8 * BLOCK_WORDS * place, BLOCK_HIDDEN_AT)
            _remember(words, memory, buffer + 4 * (place * stride + before))


@part
def _remember(words: int, memory: int, newest: int) -> None:
    """Drop the oldest input that a layer keeps, and add the newest."""
    inputs = read_i64(words, LAYER_INPUTS)
    kept = inputs * read_i64(words, LAYER_TAPS) * read_i64(words, LAYER_DILATION)
    copy_floats(memory + 4 * inputs, memory, kept)
    copy_floats(newest, memory + 4 * kept, inputs)
