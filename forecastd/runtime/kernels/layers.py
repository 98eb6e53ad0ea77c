"""Layers of a block; of a recurrent one a tile of gates, then the cell while they are in cache."""

from __future__ import annotations

from forecastd.runtime.kernels.activations import sigmoid_of_twice, tanh_parts
from forecastd.runtime.kernels.compiling import part, section
from forecastd.runtime.kernels.features import copy_floats
from forecastd.runtime.kernels.linear import gather_taps, run_linear
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
    GRU,
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
    LAYER_PEEPHOLES_AT,
    LAYER_RECURRENT,
    LAYER_STRIDE,
    LAYER_WEIGHTS_AT,
    LAYER_WORDS,
    LAYERS,
    LAYERS_AT,
    LINEAR,
    PEEPHOLE_LSTM,
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
    VECTOR_BYTES,
    Vector,
    fma,
    load,
    read_i64,
    read_u8,
    store,
    write_i64,
)
from forecastd.series import IntArray

Cells = tuple[int, int, int]
"""Kind of a layer, where the peepholes of its next panel are, and room for the last few units."""


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
            gather_taps(words, memory, buffer)
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
            run_linear(p, words, count)
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
        for place in range(count):
            of_row = block + 8 * BLOCK_WORDS * place
            _update_cells(of_row, unit, hidden - unit, gates + 4 * PANEL * place, layer)
        for place in range(count):
            of_row = block + 8 * BLOCK_WORDS * place
            _write_outputs(of_row, unit, hidden - unit, gates + 4 * PANEL * place, layer)
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
            _update_cells(block, unit, hidden - unit, of_panel, layer)
            _write_outputs(block, unit, hidden - unit, of_panel, layer)
            layer = kind, layer[1] + 4 * PANEL, layer[2]
            unit += LANES
        weights += panels * panel_bytes
        start += 4 * panels * PANEL


@part
def _update_cells(block: int, unit: int, units: int, gates: int, layer: Cells) -> None:
    """Update LANES cells of the series of a block's row, or the last few, from their gates."""
    kind, peepholes, tail = layer
    if kind == GRU:
        return
    cell = read_i64(block, BLOCK_CELL_AT) + 4 * unit
    place = cell if units >= LANES else tail
    if units < LANES:
        copy_floats(cell, tail, units)
    if kind == PEEPHOLE_LSTM:
        _see_old_cell(gates, peepholes, load(place))
    new = _lstm_cell(gates, load(place))
    store(place, new)
    if kind == PEEPHOLE_LSTM:
        _see_new_cell(gates, peepholes, new)
    if units < LANES:
        copy_floats(tail, cell, units)


@part
def _write_outputs(block: int, unit: int, units: int, gates: int, layer: Cells) -> None:
    """Write LANES hidden states, or the last few, from their cells, and hand them on.

    A pass of its own: what a cell needs is one long chain, and two short ones overlap better.
    """
    kind, _, tail = layer
    cell = read_i64(block, BLOCK_CELL_AT) + 4 * unit
    memory = read_i64(block, BLOCK_HIDDEN_AT) + 4 * unit
    output = read_i64(block, BLOCK_OUTPUT_AT) + 4 * unit
    place = cell if units >= LANES else tail
    if units < LANES:
        copy_floats(cell, tail, units)
    before = load(place)
    hidden = _gru_hidden(gates, before) if kind == GRU else _lstm_hidden(gates, before)
    if units >= LANES:
        store(memory, hidden)
        store(output, hidden)
        return
    store(tail, hidden)
    copy_floats(tail, memory, units)
    copy_floats(tail, output, units)


@part
def _see_old_cell(gates: int, peepholes: int, cell: Vector) -> None:
    """Add what the gates i, f and g see of the cell before the step."""
    for gate in range(3):
        at = VECTOR_BYTES * gate
        store(gates + at, fma(load(peepholes + at), cell, load(gates + at)))


@part
def _see_new_cell(gates: int, peepholes: int, cell: Vector) -> None:
    """Add what the gate o sees of the cell after the step."""
    at = 3 * VECTOR_BYTES
    store(gates + at, fma(load(peepholes + at), cell, load(gates + at)))


@part
def _lstm_cell(gates: int, cell: Vector) -> Vector:
    """Return f c + i g, over one denominator. Gate order i, f, g, o; i, f and o come halved."""
    i, i_under = sigmoid_of_twice(load(gates))
    f, f_under = sigmoid_of_twice(load(gates + VECTOR_BYTES))
    g, g_under = tanh_parts(load(gates + 2 * VECTOR_BYTES))
    new, new_under = i * g, i_under * g_under
    return fma(f * cell, new_under, new * f_under) / (f_under * new_under)


@part
def _lstm_hidden(gates: int, cell: Vector) -> Vector:
    """Return o tanh(c), over one denominator."""
    o, o_under = sigmoid_of_twice(load(gates + 3 * VECTOR_BYTES))
    t, t_under = tanh_parts(cell)
    return (o * t) / (o_under * t_under)


@part
def _gru_hidden(gates: int, hidden: Vector) -> Vector:
    """Return (1 - z) n + z h with n = tanh(x + r y). Gate order r, z, x, y; r and z come halved."""
    r, r_under = sigmoid_of_twice(load(gates))
    z, z_under = sigmoid_of_twice(load(gates + VECTOR_BYTES))
    x, y = load(gates + 2 * VECTOR_BYTES), load(gates + 3 * VECTOR_BYTES)
    n, n_under = tanh_parts(fma(r, y / r_under, x))
    return fma(n, z_under - z, z * hidden * n_under) / (n_under * z_under)


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
