"""The cells of a recurrent layer: from the gates of LANES units to their state and output."""

from __future__ import annotations

from forecastd.runtime.kernels.activations import sigmoid_of_twice, tanh_parts
from forecastd.runtime.kernels.compiling import part
from forecastd.runtime.kernels.features import copy_floats
from forecastd.runtime.kernels.table import (
    BLOCK_CELL_AT,
    BLOCK_HIDDEN_AT,
    BLOCK_OUTPUT_AT,
    BLOCK_WORDS,
    GRU,
    LSTM,
    PEEPHOLE_LSTM,
)
from forecastd.runtime.kernels.tiles import PANEL
from forecastd.runtime.kernels.vectors import (
    LANES,
    VECTOR_BYTES,
    Vector,
    fma,
    load,
    read_i64,
    store,
)

Cells = tuple[int, int, int]
"""Kind of a layer, where the peepholes of its next panel are, and room for the last few units."""


@part
def update_units(rows: tuple[int, int], units: tuple[int, int], gates: int, layer: Cells) -> None:
    """Update the cells of LANES units in rows of the block, or the last few, and hand them on.

    rows: address of the first and how many. units: the first and how many are left. gates: of the
    first row, [rows, PANEL]. Cells are one pass and outputs another: what a cell needs is one
    long chain, and two short ones overlap better.
    """
    block, count = rows
    unit, left = units
    if layer[0] == LSTM and left >= LANES:
        _update_lstm(block, count, unit, gates)
        return
    for place in range(count):
        of_row = block + 8 * BLOCK_WORDS * place
        _update_cells(of_row, unit, left, gates + 4 * PANEL * place, layer)
    for place in range(count):
        of_row = block + 8 * BLOCK_WORDS * place
        _write_outputs(of_row, unit, left, gates + 4 * PANEL * place, layer)


@part
def _update_lstm(block: int, count: int, unit: int, gates: int) -> None:
    """Do what follows for whole vectors of an LSTM: loops without a choice are a tenth faster."""
    for place in range(count):
        of_row = block + 8 * BLOCK_WORDS * place
        cell = read_i64(of_row, BLOCK_CELL_AT) + 4 * unit
        store(cell, _lstm_cell(gates + 4 * PANEL * place, load(cell)))
    for place in range(count):
        of_row = block + 8 * BLOCK_WORDS * place
        cell = read_i64(of_row, BLOCK_CELL_AT) + 4 * unit
        hidden = _lstm_hidden(gates + 4 * PANEL * place, load(cell))
        store(read_i64(of_row, BLOCK_HIDDEN_AT) + 4 * unit, hidden)
        store(read_i64(of_row, BLOCK_OUTPUT_AT) + 4 * unit, hidden)


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
    """Write LANES hidden states, or the last few, from their cells, and hand them on."""
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
