"""Linear layers of a block: maps of what enters, and of past inputs where it is a convolution."""

from __future__ import annotations

import numpy as np

from forecastd.runtime.kernels.activations import softmax
from forecastd.runtime.kernels.compiling import part, section
from forecastd.runtime.kernels.features import copy_floats
from forecastd.runtime.kernels.table import (
    BLOCK_AT,
    BLOCK_HIDDEN_AT,
    BLOCK_OUTPUT_AT,
    BLOCK_ROW_AT,
    BLOCK_WORDS,
    GATES_AT,
    LAYER_ACTIVATION,
    LAYER_BIAS_AT,
    LAYER_BUFFER_AT,
    LAYER_DILATION,
    LAYER_HIDDEN,
    LAYER_HIDDEN_OFFSET,
    LAYER_INPUTS,
    LAYER_LATEST_OFFSET,
    LAYER_RECURRENT,
    LAYER_STRIDE,
    LAYER_TAPS,
    LAYER_WEIGHTS_AT,
    RELU,
    SOFTMAX,
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
def gather_taps(words: int, memory: int, buffer: int, oldest: int) -> None:
    """Copy past inputs that a layer reads to its buffer, from number `oldest` on.

    memory: all it keeps, oldest first. 1: for the next step; 0: those of the newest step again.
    """
    inputs, apart = read_i64(words, LAYER_INPUTS), read_i64(words, LAYER_DILATION)
    for tap in range(read_i64(words, LAYER_TAPS)):
        kept = memory + 4 * inputs * (oldest + tap * apart)
        copy_floats(kept, buffer + 4 * inputs * tap, inputs)


@part
def gather_newest(words: int, memory: int, buffer: int) -> None:
    """Copy what a layer read in its newest step to its buffer."""
    gather_taps(words, memory, buffer, 0)
    inputs, taps = read_i64(words, LAYER_INPUTS), read_i64(words, LAYER_TAPS)
    newest = memory + 4 * inputs * taps * read_i64(words, LAYER_DILATION)
    copy_floats(newest, buffer + 4 * read_i64(words, LAYER_RECURRENT), inputs)


@section
def run_linear(p: IntArray, words: int, count: int, advances: bool) -> None:
    """Take the first `count` rows of the block through a linear layer.

    advances: what entered is remembered. Else nothing but the output changes.
    """
    inputs, before = read_i64(words, LAYER_INPUTS), read_i64(words, LAYER_RECURRENT)
    outputs, depth = read_i64(words, LAYER_HIDDEN), before + inputs
    stride, buffer = read_i64(words, LAYER_STRIDE), read_i64(words, LAYER_BUFFER_AT)
    weights, bias = read_i64(words, LAYER_WEIGHTS_AT), read_i64(words, LAYER_BIAS_AT)
    gates, latest = p[GATES_AT], read_i64(words, LAYER_LATEST_OFFSET)
    for first in range(0, outputs, PANEL):
        multiply((weights, bias), (buffer, stride, depth), count, gates)
        if read_i64(words, LAYER_ACTIVATION) == RELU:
            for offset in range(0, 4 * PANEL * count, VECTOR_BYTES):
                store(gates + offset, larger(load(gates + offset), spread(np.float32(0))))
        some = PANEL if outputs - first > PANEL else outputs - first
        for place in range(count):
            block, made = p[BLOCK_AT] + 8 * BLOCK_WORDS * place, gates + 4 * PANEL * place
            copy_floats(made, read_i64(block, BLOCK_OUTPUT_AT) + 4 * first, some)
            if latest > 0:
                copy_floats(made, read_i64(block, BLOCK_ROW_AT) + latest + 4 * first, some)
        weights += 4 * PANEL * depth
        bias += 4 * PANEL
    if read_i64(words, LAYER_ACTIVATION) == SOFTMAX:
        _make_shares(p, words, count)
    if advances and read_i64(words, LAYER_HIDDEN_OFFSET) > 0:
        for place in range(count):
            memory = read_i64(p[BLOCK_AT] + 8 * BLOCK_WORDS * place, BLOCK_HIDDEN_AT)
            _remember(words, memory, buffer + 4 * (place * stride + before))


@part
def _make_shares(p: IntArray, words: int, count: int) -> None:
    """Make shares of a layer's outputs, where they are kept and where they go."""
    outputs, latest = read_i64(words, LAYER_HIDDEN), read_i64(words, LAYER_LATEST_OFFSET)
    for place in range(count):
        block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
        target = read_i64(block, BLOCK_OUTPUT_AT)
        kept = read_i64(block, BLOCK_ROW_AT) + latest if latest > 0 else target
        softmax(kept, kept, outputs)
        if latest > 0:
            copy_floats(kept, target, outputs)


@part
def _remember(words: int, memory: int, newest: int) -> None:
    """Drop the oldest input that a layer keeps, and add the newest."""
    inputs = read_i64(words, LAYER_INPUTS)
    kept = inputs * read_i64(words, LAYER_TAPS) * read_i64(words, LAYER_DILATION)
    copy_floats(memory + 4 * inputs, memory, kept)
    copy_floats(newest, memory + 4 * kept, inputs)
