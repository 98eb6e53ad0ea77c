"""Layers of a block; of a recurrent one a tile of gates, then the cell while they are in cache."""

from __future__ import annotations

from forecastd.runtime.kernels.cells import update_units
from forecastd.runtime.kernels.compiling import part, section
from forecastd.runtime.kernels.features import copy_floats
from forecastd.runtime.kernels.linear import gather_newest, gather_taps, run_linear
from forecastd.runtime.kernels.table import (
    AHEAD_AT,
    AHEAD_BYTES,
    AHEAD_VALID_AT,
    BLOCK_AT,
    BLOCK_CELL_AT,
    BLOCK_HEAD_PLACE,
    BLOCK_HIDDEN_AT,
    BLOCK_OUTPUT_AT,
    BLOCK_ROW_AT,
    BLOCK_SLOT,
    BLOCK_WORDS,
    GATES_AT,
    HEAD_INPUT_AT,
    HEAD_STRIDE,
    LAYER_AHEAD_OFFSET,
    LAYER_BIAS_AT,
    LAYER_BUFFER_AT,
    LAYER_CELL_OFFSET,
    LAYER_HIDDEN,
    LAYER_HIDDEN_OFFSET,
    LAYER_INPUTS,
    LAYER_KIND,
    LAYER_LATEST_OFFSET,
    LAYER_PEEPHOLES_AT,
    LAYER_RECURRENT,
    LAYER_STRIDE,
    LAYER_WEIGHTS_AT,
    LAYER_WORDS,
    LAYERS,
    LAYERS_AT,
    LINEAR,
    RECALLED,
    TAIL_AT,
)
from forecastd.runtime.kernels.tiles import (
    PANEL,
    multiply,
    tile_of_one,
    tile_of_one_wide,
)
from forecastd.runtime.kernels.vectors import (
    LANES,
    read_i64,
    read_u8,
    write_i64,
)
from forecastd.series import IntArray


@part
def layer_of(p: IntArray, layer: int) -> int:
    """Return the address of a layer's words."""
    return int(p[LAYERS_AT] + 8 * LAYER_WORDS * layer)


@part
def gather_hidden(p: IntArray, row: int, place: int) -> None:
    """Copy what a series remembers of each layer into row `place` of the layer's buffer."""
    for layer in range(p[LAYERS]):
        words = layer_of(p, layer)
        buffer = read_i64(words, LAYER_BUFFER_AT) + 4 * place * read_i64(words, LAYER_STRIDE)
        memory = row + read_i64(words, LAYER_HIDDEN_OFFSET)
        if read_i64(words, LAYER_KIND) == LINEAR:
            gather_taps(words, memory, buffer, 1)
        else:
            copy_floats(memory, buffer, read_i64(words, LAYER_HIDDEN))


@section
def run_layers(p: IntArray, count: int) -> None:
    """Advance the first `count` rows of the block through all layers."""
    for layer in range(p[LAYERS]):
        words = layer_of(p, layer)
        for place in range(count):
            _place_units(p, layer, words, place)
        if read_i64(words, LAYER_KIND) == LINEAR:
            run_linear(p, words, count, True)
        elif count == 1:
            _run_one(p, words)
        else:
            _run_many(p, words, count)


@part
def _place_units(p: IntArray, layer: int, words: int, place: int) -> None:
    """Note where a row's cells and hidden states are, and where its output goes.

    That is into the inputs of the next layer, or of the head.
    """
    block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
    row = read_i64(block, BLOCK_ROW_AT)
    write_i64(block, BLOCK_CELL_AT, row + read_i64(words, LAYER_CELL_OFFSET))
    write_i64(block, BLOCK_HIDDEN_AT, row + read_i64(words, LAYER_HIDDEN_OFFSET))
    if layer + 1 < p[LAYERS]:
        upper = layer_of(p, layer + 1)
        inputs = 4 * (place * read_i64(upper, LAYER_STRIDE) + read_i64(upper, LAYER_RECURRENT))
        write_i64(block, BLOCK_OUTPUT_AT, read_i64(upper, LAYER_BUFFER_AT) + inputs)
    else:
        inputs = 4 * read_i64(block, BLOCK_HEAD_PLACE) * p[HEAD_STRIDE]
        write_i64(block, BLOCK_OUTPUT_AT, p[HEAD_INPUT_AT] + inputs)


@part
def _run_many(p: IntArray, words: int, count: int) -> None:
    hidden, inputs = read_i64(words, LAYER_HIDDEN), read_i64(words, LAYER_INPUTS)
    depth = hidden + inputs
    stride = read_i64(words, LAYER_STRIDE)
    weights, bias = read_i64(words, LAYER_WEIGHTS_AT), read_i64(words, LAYER_BIAS_AT)
    buffer = read_i64(words, LAYER_BUFFER_AT)
    gates, block = p[GATES_AT], p[BLOCK_AT]
    kind = read_i64(words, LAYER_KIND)
    layer = kind, read_i64(words, LAYER_PEEPHOLES_AT), p[TAIL_AT]
    for unit in range(0, hidden, LANES):
        multiply((weights, bias), (buffer, stride, depth), count, gates)
        update_units((block, count), (unit, hidden - unit), gates, layer)
        weights += 4 * PANEL * depth
        bias += 4 * PANEL
        layer = kind, layer[1] + 4 * PANEL, layer[2]


@part
def _run_one(p: IntArray, words: int) -> None:
    """Advance the only row: two panels at a time keep enough sums in flight to hide their latency.

    Where the recurrent half was made ahead, only the inputs are multiplied.
    """
    hidden, inputs = read_i64(words, LAYER_HIDDEN), read_i64(words, LAYER_INPUTS)
    depth, skipped = hidden + inputs, 0
    start = read_i64(words, LAYER_BIAS_AT)
    block = p[BLOCK_AT]
    slot = read_i64(block, BLOCK_SLOT)
    if p[AHEAD_AT] != 0 and read_u8(p[AHEAD_VALID_AT], slot) != 0:
        skipped = hidden
        start = p[AHEAD_AT] + p[AHEAD_BYTES] * slot + read_i64(words, LAYER_AHEAD_OFFSET)
    panel_bytes = 4 * PANEL * depth
    weights = read_i64(words, LAYER_WEIGHTS_AT) + 4 * PANEL * skipped
    values = read_i64(words, LAYER_BUFFER_AT) + 4 * skipped
    gates, kind = p[GATES_AT], read_i64(words, LAYER_KIND)
    layer = kind, read_i64(words, LAYER_PEEPHOLES_AT), p[TAIL_AT]
    unit = 0
    while unit < hidden:
        panels = 2 if unit + LANES < hidden else 1
        if panels == 2:
            tile_of_one_wide(weights, panel_bytes, start, values, 0, depth - skipped, gates)
        else:
            tile_of_one(weights, panel_bytes, start, values, 0, depth - skipped, gates)
        for panel in range(panels):
            of_panel = gates + 4 * PANEL * panel
            update_units((block, 1), (unit, hidden - unit), of_panel, layer)
            layer = kind, layer[1] + 4 * PANEL, layer[2]
            unit += LANES
        weights += panels * panel_bytes
        start += 4 * panels * PANEL


@section
def recall_outputs(p: IntArray, count: int) -> None:
    """Give the head what it read of the first `count` rows after the newest step of their series.

    The highest layer that remembers tells its output; those above are made of it again.
    """
    for layer in range(p[RECALLED], p[LAYERS]):
        words = layer_of(p, layer)
        for place in range(count):
            _place_units(p, layer, words, place)
        if layer > p[RECALLED]:
            run_linear(p, words, count, False)
        elif read_i64(words, LAYER_KIND) == LINEAR and read_i64(words, LAYER_LATEST_OFFSET) == 0:
            stride, buffer = read_i64(words, LAYER_STRIDE), read_i64(words, LAYER_BUFFER_AT)
            for place in range(count):
                block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
                memory = read_i64(block, BLOCK_HIDDEN_AT)
                gather_newest(words, memory, buffer + 4 * place * stride)
            run_linear(p, words, count, False)
        else:
            _copy_outputs(p, words, count)


@part
def _copy_outputs(p: IntArray, words: int, count: int) -> None:
    """Copy what a layer gave from the rows of the series to where its output goes."""
    latest = read_i64(words, LAYER_LATEST_OFFSET)
    for place in range(count):
        block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
        kept = read_i64(block, BLOCK_HIDDEN_AT)
        if latest > 0:
            kept = read_i64(block, BLOCK_ROW_AT) + latest
        copy_floats(kept, read_i64(block, BLOCK_OUTPUT_AT), read_i64(words, LAYER_HIDDEN))


@section
def run_ahead(p: IntArray, slot: int, row: int) -> None:
    """Make the recurrent half of a series' next gates, in the order a whole step adds them."""
    for layer in range(p[LAYERS]):
        words = layer_of(p, layer)
        if read_i64(words, LAYER_KIND) == LINEAR:
            continue
        hidden, inputs = read_i64(words, LAYER_HIDDEN), read_i64(words, LAYER_INPUTS)
        panel_bytes = 4 * PANEL * (hidden + inputs)
        weights, bias = read_i64(words, LAYER_WEIGHTS_AT), read_i64(words, LAYER_BIAS_AT)
        values = row + read_i64(words, LAYER_HIDDEN_OFFSET)
        out = p[AHEAD_AT] + p[AHEAD_BYTES] * slot + read_i64(words, LAYER_AHEAD_OFFSET)
        for _ in range(0, hidden, LANES):
            tile_of_one(weights, panel_bytes, bias, values, 0, hidden, out)
            weights += panel_bytes
            bias += 4 * PANEL
            out += 4 * PANEL
