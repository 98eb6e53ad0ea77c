"""The innermost loop: a tile of rows times a panel of weights, held in registers.

Each number of a tile is one chain of fused multiply-adds in the order of k, whatever the size of
the tile. So a row gives the same bits alone and among thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from forecastd.runtime.kernels.compiling import part
from forecastd.runtime.kernels.vectors import (
    F32,
    I64,
    LANES,
    VECTOR,
    instruction,
    load_vector,
    pointer,
    spread_value,
    vector_function,
)

PANEL_VECTORS = 4
"""Vectors side by side in a panel: the four gates of LANES units, or 4 * LANES outputs."""

PANEL = PANEL_VECTORS * LANES
"""Numbers in a row of a panel."""

TILE_ROWS = 3 if LANES == 8 else 6
"""Rows of the large tile: its sums, a row of values and one weight fill the registers."""

_UNROLLED = 2


def _tile(rows: int, panels: int) -> Callable[..., None]:
    """Return the function (weights, panel_bytes, start, values, stride, count, out).

    Adds sum over k < count of values[row, k] * weights[panel, k] to `start` [panels, PANEL] for
    each of `rows` rows, and writes out [rows, panels, PANEL]. values: rows of `stride` floats;
    weights: panels `panel_bytes` apart, [count, PANEL] each. All but stride and count are
    addresses.
    """

    def emit(builder: Any, *args: Any) -> None:
        _emit(builder, args, rows, panels)

    return instruction(types.void, [types.int64] * 7, emit)


def _emit(builder: Any, args: Any, rows: int, panels: int) -> None:
    weights, panel_bytes, start, values, stride, count, out = args
    columns = panels * PANEL_VECTORS
    starts = pointer(builder, start, VECTOR)
    first = [load_vector(builder, builder.gep(starts, [I64(c)])) for c in range(columns)]
    row_of = [
        builder.gep(pointer(builder, values, F32), [builder.mul(stride, I64(row))])
        for row in range(rows)
    ]
    panel_of = [
        pointer(builder, builder.add(weights, builder.mul(panel_bytes, I64(panel))), VECTOR)
        for panel in range(panels)
    ]
    even = builder.and_(count, I64(-_UNROLLED))
    begin = [list(first) for _ in range(rows)]
    loops = _Loop(builder, row_of, panel_of)
    sums = loops.emit(begin, I64(0), even, _UNROLLED)
    sums = loops.emit(sums, even, count, 1)
    outs = pointer(builder, out, VECTOR)
    for row in range(rows):
        for column in range(columns):
            place = builder.gep(outs, [I64(row * columns + column)])
            builder.store(sums[row][column], place, align=4)


class _Loop:
    """Emits loops over k whose sums stay in registers."""

    def __init__(self, builder: Any, row_of: list[Any], panel_of: list[Any]) -> None:
        self._builder = builder
        self._row_of = row_of
        self._panel_of = panel_of
        self._multiply_add = vector_function(builder, "llvm.fma", 3)

    def emit(self, sums: list[list[Any]], begin: Any, end: Any, unrolled: int) -> list[list[Any]]:
        """Emit the loop from begin to end, which may be empty; return the sums after it."""
        builder = self._builder
        before = builder.block
        loop, after = builder.append_basic_block("k"), builder.append_basic_block("after_k")
        builder.cbranch(builder.icmp_signed("<", begin, end), loop, after)
        builder.position_at_end(loop)
        k = builder.phi(I64)
        k.add_incoming(begin, before)
        carried = [[_phi(builder, value, before) for value in row] for row in sums]
        current: list[list[Any]] = [list(row) for row in carried]
        for offset in range(unrolled):
            current = self._add(current, builder.add(k, I64(offset)))
        following = builder.add(k, I64(unrolled))
        k.add_incoming(following, loop)
        for row, (phis, values) in enumerate(zip(carried, current, strict=True)):
            for column, (phi, value) in enumerate(zip(phis, values, strict=True)):
                phi.add_incoming(value, loop)
                carried[row][column] = phi
        builder.cbranch(builder.icmp_signed("<", following, end), loop, after)
        builder.position_at_end(after)
        return [
            [_merge(builder, (a, before), (b, loop)) for a, b in zip(x, y, strict=True)]
            for x, y in zip(sums, current, strict=True)
        ]

    def _add(self, sums: list[list[Any]], k: Any) -> list[list[Any]]:
        """Add the products of one k: each weight is read once and meets all rows."""
        builder = self._builder
        values = [
            spread_value(builder, builder.load(builder.gep(row, [k]))) for row in self._row_of
        ]
        first = builder.mul(k, I64(PANEL_VECTORS))
        column = 0
        for panel in self._panel_of:
            for place in range(PANEL_VECTORS):
                at = builder.gep(panel, [builder.add(first, I64(place))])
                weight = load_vector(builder, at)
                for row, value in enumerate(values):
                    product = [value, weight, sums[row][column]]
                    sums[row][column] = builder.call(self._multiply_add, product)
                column += 1
        return sums


def _phi(builder: Any, value: Any, block: Any) -> Any:
    phi = builder.phi(VECTOR)
    phi.add_incoming(value, block)
    return phi


def _merge(builder: Any, one: tuple[Any, ir.Block], other: tuple[Any, ir.Block]) -> Any:
    phi = builder.phi(VECTOR)
    phi.add_incoming(*one)
    phi.add_incoming(*other)
    return phi


tile_of_rows = _tile(TILE_ROWS, 1)
tile_of_one = _tile(1, 1)
tile_of_one_wide = _tile(1, 2)


@part
def multiply(panel: tuple[int, int], rows: tuple[int, int, int], count: int, out: int) -> None:
    """Write to out [count, PANEL] the bias of a panel and the products of `count` rows with it.

    panel: addresses of its weights [depth, PANEL] and bias. rows: the address of the first, the
    floats from one to the next, and depth, how many of each are multiplied.
    """
    weights, bias = panel
    values, stride, depth = rows
    done = 0
    while done < count:
        at, target = values + 4 * done * stride, out + 4 * PANEL * done
        if count - done >= TILE_ROWS:
            tile_of_rows(weights, 0, bias, at, stride, depth, target)
            done += TILE_ROWS
        else:
            tile_of_one(weights, 0, bias, at, stride, depth, target)
            done += 1
