"""The entry: step a micro-batch, forecast from states as they are, or make the next step ahead.

It takes the table of a program and a count of rows; everything else is read from and written to
the addresses in the table. It allocates nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forecastd.runtime.kernels.compiling import entry, part, section
from forecastd.runtime.kernels.features import encode, prepare_head
from forecastd.runtime.kernels.heads import run_head
from forecastd.runtime.kernels.layers import (
    gather_hidden,
    layer_of,
    recall_outputs,
    run_ahead,
    run_layers,
)
from forecastd.runtime.kernels.table import (
    AHEAD,
    AHEAD_AT,
    AHEAD_VALID_AT,
    ARENA_AT,
    BLOCK_AT,
    BLOCK_HEAD_PLACE,
    BLOCK_OUT_AT,
    BLOCK_ROW_AT,
    BLOCK_ROWS,
    BLOCK_SLOT,
    BLOCK_TIME,
    BLOCK_VALUES_AT,
    BLOCK_WORDS,
    CHANNELS,
    CODES_OFFSET,
    COLUMNS,
    COUNTS_AT,
    DIRTY_AT,
    FILLED,
    FORECAST,
    FORECAST_STEPS,
    FREQUENCY_KIND,
    FREQUENCY_SIZE,
    GIVEN_AT,
    HEAD_ROWS_AT,
    INITIAL_AT,
    LAST_TIME_OFFSET,
    LATE,
    LAYER_BUFFER_AT,
    LAYER_RECURRENT,
    LAYER_STRIDE,
    MAX_GAP,
    MONTH,
    NO_SLOT,
    NOTHING_AT,
    ORDER_AT,
    OUT_AT,
    OUT_NUMBERS,
    RANK_AT,
    REPEAT,
    ROW_BYTES,
    ROWS_AT,
    SLOTS_AT,
    STARTS_AT,
    STATUS_AT,
    STEPS_OFFSET,
    TASK,
    TIMES_AT,
    USED,
    VALUES_AT,
    WAVE_AT,
)
from forecastd.runtime.kernels.times import advance, steps_between
from forecastd.runtime.kernels.vectors import (
    flush_denormals,
    prefetch,
    read_f32,
    read_i32,
    read_i64,
    read_u8,
    restore_denormals,
    write_f32,
    write_i32,
    write_i64,
    write_u8,
)
from forecastd.series import NEVER, IntArray

Entry = Callable[[Any, int], None]
"""Takes a program's table and how many entries of ROWS_AT to use."""

_LINE_BYTES = 64


@section
def _order_by_wave(p: IntArray, count: int) -> int:
    """Sort the rows so that the k-th row of each series is in wave k; return the waves.

    Waves and the rows in them stay in order of arrival. Row `starts[k]` begins wave k.
    """
    rows, ranks, order, starts = p[ROWS_AT], p[RANK_AT], p[ORDER_AT], p[STARTS_AT]
    waves = 1
    write_i64(starts, 0, 0)
    write_i64(starts, 1, 0)
    for index in range(count):
        slot = read_i64(p[SLOTS_AT], read_i64(rows, index))
        rank = 0
        if slot >= 0:
            rank = read_i32(p[WAVE_AT], slot)
            write_i32(p[WAVE_AT], slot, rank + 1)
        write_i32(ranks, index, rank)
        if rank == waves:
            waves += 1
            write_i64(starts, waves, 0)
        write_i64(starts, rank + 1, read_i64(starts, rank + 1) + 1)
    for wave in range(waves):
        write_i64(starts, wave + 1, read_i64(starts, wave) + read_i64(starts, wave + 1))
    for index in range(count):
        row = read_i64(rows, index)
        rank = read_i32(ranks, index)
        place = read_i64(starts, rank)
        write_i64(starts, rank, place + 1)
        write_i64(order, place, row)
        slot = read_i64(p[SLOTS_AT], row)
        if slot >= 0:
            write_i32(p[WAVE_AT], slot, 0)
    return waves


@part
def _fill_row(p: IntArray, place: int, slot: int, time: int, values: int) -> None:
    """Put a series into the block without a forecast."""
    block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
    write_i64(block, BLOCK_SLOT, slot)
    write_i64(block, BLOCK_ROW_AT, p[ARENA_AT] + slot * p[ROW_BYTES])
    write_i64(block, BLOCK_TIME, time)
    write_i64(block, BLOCK_VALUES_AT, values)
    write_i64(block, BLOCK_OUT_AT, 0)
    write_i64(block, BLOCK_HEAD_PLACE, BLOCK_ROWS)


@section
def _advance(p: IntArray, count: int) -> None:
    """Step the first `count` rows of the block, each of another series."""
    lowest = layer_of(p, 0)
    stride, before = read_i64(lowest, LAYER_STRIDE), read_i64(lowest, LAYER_RECURRENT)
    for place in range(count):
        block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
        row = read_i64(block, BLOCK_ROW_AT)
        gather_hidden(p, row, place)
        encode(p, block, read_i64(lowest, LAYER_BUFFER_AT) + 4 * (place * stride + before))
        head_place = read_i64(block, BLOCK_HEAD_PLACE)
        if head_place < BLOCK_ROWS:
            prepare_head(p, row, head_place)
    run_layers(p, count)
    for place in range(count):
        block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
        row, slot = read_i64(block, BLOCK_ROW_AT), read_i64(block, BLOCK_SLOT)
        write_i64(row + p[LAST_TIME_OFFSET], 0, read_i64(block, BLOCK_TIME))
        write_i64(row + p[STEPS_OFFSET], 0, read_i64(row + p[STEPS_OFFSET], 0) + 1)
        write_u8(p[DIRTY_AT], slot, 1)
        if p[AHEAD_AT] != 0:
            write_u8(p[AHEAD_VALID_AT], slot, 0)


@part
def _holes_before(p: IntArray, slot: int, last: int, time: int) -> int:
    """Return how many stamps of a series are missing; reset it where those are too many."""
    if time - last == p[FREQUENCY_SIZE] and p[FREQUENCY_KIND] != MONTH:
        return 0
    holes = steps_between(last, time, p[FREQUENCY_KIND], p[FREQUENCY_SIZE]) - 1
    if holes <= p[MAX_GAP]:
        return holes
    row = p[ARENA_AT] + slot * p[ROW_BYTES]
    codes = row + p[CODES_OFFSET]
    for offset in range(0, p[ROW_BYTES], 4):
        if row + offset < codes or row + offset >= codes + 8 * p[COLUMNS]:
            write_f32(row + offset, 0, read_f32(p[INITIAL_AT] + offset, 0))
    if p[AHEAD_AT] != 0:
        write_u8(p[AHEAD_VALID_AT], slot, 0)
    write_i64(p[COUNTS_AT], 1, read_i64(p[COUNTS_AT], 1) + 1)
    return 0


@part
def _last_time(p: IntArray, slot: int) -> int:
    """Return the newest time of a series, or NEVER."""
    if slot < 0:
        return NEVER
    return int(read_i64(p[ARENA_AT] + slot * p[ROW_BYTES] + p[LAST_TIME_OFFSET], 0))


@part
def _admit(p: IntArray, row: int, place: int, anchor: int, done: int) -> int:
    """Put a row of the batch into the block if it is on time; return what becomes of it.

    Where a stamp before it is missing, that step goes into the block instead: FILLED.
    anchor: the time of the last observation of the series; done: steps filled in since.
    """
    slot = read_i64(p[SLOTS_AT], row)
    if slot < 0:
        return NO_SLOT
    time, last = read_i64(p[TIMES_AT], row), _last_time(p, slot)
    if last != NEVER:
        if time <= last:
            return REPEAT if time == last else LATE
        if _holes_before(p, slot, last, time) > 0:
            missing = advance(anchor, done + 1, p[FREQUENCY_KIND], p[FREQUENCY_SIZE])
            _fill_row(p, place, slot, missing, p[NOTHING_AT])
            write_i64(p[COUNTS_AT], 0, read_i64(p[COUNTS_AT], 0) + 1)
            return FILLED
    _fill_row(p, place, slot, time, p[VALUES_AT] + 4 * p[CHANNELS] * row)
    return USED


@part
def _is_wanted(p: IntArray, row: int) -> bool:
    """Whether a forecast is wanted after a row of the batch that is about to be stepped."""
    every = p[FORECAST_STEPS]
    if every <= 1:
        return bool(every == 1)
    series = p[ARENA_AT] + read_i64(p[SLOTS_AT], row) * p[ROW_BYTES]
    return bool((read_i64(series + p[STEPS_OFFSET], 0) + 1) % every == 0)


@part
def _want_forecast(p: IntArray, place: int, head_place: int, row: int) -> None:
    """Have row `place` of the block forecast into the batch's row."""
    block = p[BLOCK_AT] + 8 * BLOCK_WORDS * place
    write_i64(block, BLOCK_OUT_AT, p[OUT_AT] + 4 * p[OUT_NUMBERS] * row)
    write_i64(block, BLOCK_HEAD_PLACE, head_place)
    write_i64(p[HEAD_ROWS_AT], head_place, place)


@part
def _prefetch_row(p: IntArray, row: int) -> None:
    slot = read_i64(p[SLOTS_AT], row)
    if slot >= 0:
        start = p[ARENA_AT] + slot * p[ROW_BYTES]
        for offset in range(0, p[ROW_BYTES] + _LINE_BYTES - 1, _LINE_BYTES):
            prefetch(start + offset)


@section
def _step_wave(p: IntArray, begin: int, end: int) -> None:
    """Step the rows from `begin` to `end` of the order, block by block.

    A series is in a block once: after a step that was filled in, the block ends.
    """
    filled = forecasts = done = 0
    anchor = NEVER
    index = begin
    while index < end:
        row = read_i64(p[ORDER_AT], index)
        if done == 0:
            anchor = _last_time(p, read_i64(p[SLOTS_AT], row))
        status = _admit(p, row, filled, anchor, done)
        done = done + 1 if status == FILLED else 0
        if status != FILLED:
            write_u8(p[STATUS_AT], row, status)
            write_u8(p[GIVEN_AT], row, 0)
            index += 1
            if index + BLOCK_ROWS < end:
                _prefetch_row(p, read_i64(p[ORDER_AT], index + BLOCK_ROWS))
        if status == USED and _is_wanted(p, row):
            _want_forecast(p, filled, forecasts, row)
            write_u8(p[GIVEN_AT], row, 1)
            forecasts += 1
        if status in (USED, FILLED):
            filled += 1
        if filled == BLOCK_ROWS or status == FILLED or (index == end and filled > 0):
            _advance(p, filled)
            if forecasts > 0:
                run_head(p, forecasts)
            filled = forecasts = 0


@part
def _step_rows(p: IntArray, count: int) -> None:
    waves = _order_by_wave(p, count)
    begin = 0
    for wave in range(waves):
        end = read_i64(p[STARTS_AT], wave)
        _step_wave(p, begin, end)
        begin = end


@part
def _forecast_rows(p: IntArray, count: int) -> None:
    """Forecast from the states of the rows' series as they are; nothing advances."""
    filled = 0
    for index in range(count):
        row = read_i64(p[ROWS_AT], index)
        _fill_row(p, filled, read_i64(p[SLOTS_AT], row), 0, 0)
        _want_forecast(p, filled, filled, row)
        series = read_i64(p[BLOCK_AT] + 8 * BLOCK_WORDS * filled, BLOCK_ROW_AT)
        prepare_head(p, series, filled)
        filled += 1
        if filled == BLOCK_ROWS or index + 1 == count:
            recall_outputs(p, filled)
            run_head(p, filled)
            filled = 0


@part
def _make_rows_ahead(p: IntArray, count: int) -> None:
    """Make the recurrent half of the next step of the rows' series, where it is not made."""
    for index in range(count):
        slot = read_i64(p[SLOTS_AT], read_i64(p[ROWS_AT], index))
        if slot >= 0 and read_u8(p[AHEAD_VALID_AT], slot) == 0:
            run_ahead(p, slot, p[ARENA_AT] + slot * p[ROW_BYTES])
            write_u8(p[AHEAD_VALID_AT], slot, 1)


def _make_run(version: int) -> Entry:
    def run(p: IntArray, count: int) -> None:
        if count == version:
            return
        before = flush_denormals()
        if p[TASK] == FORECAST:
            _forecast_rows(p, count)
        elif p[TASK] == AHEAD:
            _make_rows_ahead(p, count)
        else:
            _step_rows(p, count)
        restore_denormals(before)

    return run


run = entry(_make_run)
"""Do the table's task: step the observations in the batch and forecast after those that want it,
forecast from states as they are, or make the next steps ahead. One entry, compiled at the start:
nothing is compiled when the first request arrives."""
