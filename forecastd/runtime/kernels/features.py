"""One observation to what the first layer reads; see features.encoder and features.scaling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from forecastd.runtime.kernels.compiling import part, section
from forecastd.runtime.kernels.table import (
    BLOCK_ROW_AT,
    BLOCK_TIME,
    BLOCK_VALUES_AT,
    CHANGES_PLACE,
    CHANNELS,
    CLOCK_CACHE_AT,
    CLOCK_CACHE_ROWS,
    CLOCK_KINDS_AT,
    CLOCKS,
    CLOCKS_PLACE,
    CODES_OFFSET,
    COLUMNS,
    EMBEDDING,
    EMBEDDINGS_AT,
    FREQUENCY_KIND,
    FREQUENCY_SIZE,
    HEAD_INPUT_AT,
    HEAD_KIND,
    HEAD_STRIDE,
    HEAD_WIDTH,
    LAGS,
    LATEST_OFFSET,
    LOCATION_AT,
    MEAN_OFFSET,
    OBSERVED_PLACE,
    RATES_AT,
    RESPONSES,
    RING_OFFSET,
    SCALE_AT,
    SEASON,
    SEEN_OFFSET,
    SPREAD_AT,
    VALUES_PLACE,
    VARIANCE_OFFSET,
)
from forecastd.runtime.kernels.times import clock_angle
from forecastd.runtime.kernels.vectors import (
    LANES,
    load,
    read_f32,
    read_f64,
    read_i64,
    spread,
    store,
    write_f32,
    write_f64,
    write_i64,
)
from forecastd.series import IntArray

SLOW_SHARE = 0.1
_FLOOR_SHARE, _FLOOR = 1e-6, 1e-30
_TRACKERS = 2


@part
def copy_floats(source: int, target: int, count: int) -> None:
    """Copy float32 from one address to another, upwards: the target may lie below the source."""
    whole = count - count % LANES
    for index in range(0, whole, LANES):
        store(target + 4 * index, load(source + 4 * index))
    for index in range(whole, count):
        write_f32(target, index, read_f32(source, index))


@section
def encode(p: IntArray, block: int, inputs: int) -> None:
    """Take the observation of a block's row into its series' memory, and write the inputs.

    block: address of the row in the block. inputs: address of F float32.
    """
    row = read_i64(block, BLOCK_ROW_AT)
    values = read_i64(block, BLOCK_VALUES_AT)
    channels = p[CHANNELS]
    seen, latest = row + p[SEEN_OFFSET], row + p[LATEST_OFFSET]
    trackers = row + p[MEAN_OFFSET], row + p[VARIANCE_OFFSET]
    rates = read_f64(p[RATES_AT], 0), read_f64(p[RATES_AT], 1)
    fresh = read_f64(seen, 0) == 0.0
    for channel in range(channels):
        value = read_f32(values, channel)
        scaled = moved = is_observed = np.float32(0)
        if math.isfinite(value):
            exact, before = np.float64(value), read_f64(seen, channel)
            write_f64(seen, channel, before + 1.0)
            if p[SCALE_AT] != 0:
                location, width = scale_of(p, row, channel)
            else:
                location, width = _track(trackers, rates, channel, exact, before + 1.0)
            per_width = 1.0 / width
            scaled = np.float32((exact - location) * per_width)
            if before > 0.0:
                moved = np.float32((exact - np.float64(read_f32(latest, channel))) * per_width)
            write_f32(latest, channel, value)
            is_observed = np.float32(1)
        if p[VALUES_PLACE] >= 0:
            write_f32(inputs + p[VALUES_PLACE], channel, scaled)
        if p[CHANGES_PLACE] >= 0:
            write_f32(inputs + p[CHANGES_PLACE], channel, moved)
        if p[OBSERVED_PLACE] >= 0:
            write_f32(inputs + p[OBSERVED_PLACE], channel, is_observed)
    place = inputs + p[CLOCKS_PLACE]
    _write_clocks(p, read_i64(block, BLOCK_TIME), place)
    if p[EMBEDDING] > 0:
        _write_embeddings(p, row, place + 8 * p[CLOCKS])
    if p[LAGS] > 0:
        _push_lag(row + p[RING_OFFSET], p[LAGS], read_f32(latest, 0), fresh)


@part
def _write_embeddings(p: IntArray, row: int, place: int) -> None:
    """Write the numbers of each category code of a series."""
    width = p[EMBEDDING]
    for column in range(p[COLUMNS]):
        code = read_i64(row + p[CODES_OFFSET], column)
        copy_floats(read_i64(p[EMBEDDINGS_AT], column) + 4 * width * code, place, width)
        place += 4 * width


@part
def _track(
    trackers: tuple[int, int],
    rates: tuple[float, float],
    channel: int,
    value: float,
    count: float,
) -> tuple[float, float]:
    """Move mean and variance of both trackers of a channel; return its location and spread.

    See RunningScale.unroll. trackers: addresses of means and variances.
    """
    fast, slow = _TRACKERS * channel, _TRACKERS * channel + 1
    location, deviation = _move(trackers, fast, rates[0], value, count)
    _, slower = _move(trackers, slow, rates[1], value, count)
    return location, spread_of(location, deviation, slower)


@part
def _move(
    trackers: tuple[int, int], index: int, rate: float, value: float, count: float
) -> tuple[float, float]:
    """Move one tracker; return its mean and standard deviation."""
    mean, variance = read_f64(trackers[0], index), read_f64(trackers[1], index)
    weight = rate if count * rate >= 1.0 else 1.0 / count
    difference = value - mean
    move = weight * difference
    mean += move
    variance = (variance + move * difference) * (1.0 - weight)
    write_f64(trackers[0], index, mean)
    write_f64(trackers[1], index, variance)
    return mean, math.sqrt(variance)


@part
def spread_of(location: float, fast: float, slow: float) -> float:
    """Return the spread of a channel from the deviations of both trackers."""
    return fast + SLOW_SHARE * slow + (abs(location) * _FLOOR_SHARE + _FLOOR)


@part
def scale_of(p: IntArray, row: int, channel: int) -> tuple[float, float]:
    """Return location and spread of a channel."""
    if p[SCALE_AT] != 0:
        return read_f64(p[SCALE_AT], 2 * channel), read_f64(p[SCALE_AT], 2 * channel + 1)
    location = read_f64(row + p[MEAN_OFFSET], _TRACKERS * channel)
    if read_f64(row + p[SEEN_OFFSET], channel) == 0.0:
        return location, 1.0
    variances = row + p[VARIANCE_OFFSET]
    fast = math.sqrt(read_f64(variances, _TRACKERS * channel))
    slow = math.sqrt(read_f64(variances, _TRACKERS * channel + 1))
    return location, spread_of(location, fast, slow)


@part
def _write_clocks(p: IntArray, time: int, place: int) -> None:
    """Write sine and cosine of each clock; series share their stamps, so most were just made."""
    clocks = p[CLOCKS]
    line = ((time >> 8) ^ (time >> 20) ^ (time >> 32) ^ time) % CLOCK_CACHE_ROWS
    cached = p[CLOCK_CACHE_AT] + line * (8 + 8 * clocks)
    if read_i64(cached, 0) != time:
        for clock in range(clocks):
            kind = read_i64(p[CLOCK_KINDS_AT], clock)
            angle = clock_angle(kind, time, p[FREQUENCY_KIND], p[FREQUENCY_SIZE], p[SEASON])
            write_f32(cached + 8, 2 * clock, np.float32(math.sin(angle)))
            write_f32(cached + 8, 2 * clock + 1, np.float32(math.cos(angle)))
        write_i64(cached, 0, time)
    copy_floats(cached + 8, place, 2 * clocks)


@part
def _push_lag(ring: int, lags: int, value: Any, fresh: bool) -> None:
    """Append a value to the ring, oldest first; the first of a series fills all of it."""
    if fresh:
        for lag in range(lags):
            write_f32(ring, lag, value)
    else:
        copy_floats(ring + 4, ring, lags - 1)
        write_f32(ring, lags - 1, value)


@section
def prepare_head(p: IntArray, row: int, place: int) -> None:
    """Write the scale and the scaled lags of a series for the head's row `place`.

    What a supervised head says is scaled by nothing.
    """
    location, width = (0.0, 1.0) if p[HEAD_KIND] >= RESPONSES else scale_of(p, row, 0)
    write_f64(p[LOCATION_AT], place, location)
    write_f64(p[SPREAD_AT], place, width)
    lags = p[LAGS]
    target = p[HEAD_INPUT_AT] + 4 * (place * p[HEAD_STRIDE] + p[HEAD_WIDTH])
    ring = row + p[RING_OFFSET]
    if read_f64(row + p[SEEN_OFFSET], 0) == 0.0:
        for lag in range(lags):
            write_f32(target, lag, np.float32(0))
        return
    centre, scale = np.float32(location), np.float32(width)
    whole = lags - lags % LANES
    for lag in range(0, whole, LANES):
        shifted = load(ring + 4 * lag) - spread(centre)
        store(target + 4 * lag, shifted / spread(scale))
    for lag in range(whole, lags):
        write_f32(target, lag, (read_f32(ring, lag) - centre) / scale)
