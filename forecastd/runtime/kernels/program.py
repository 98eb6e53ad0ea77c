"""A program: a model's weights in the order the kernels read them, and the table of addresses."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.features.spec import CHANGE, OBSERVED, VALUE, scale_rates
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.kernels import table as t
from forecastd.runtime.kernels.packing import (
    PackedWeights,
    live_layers,
    padded,
    panels_of,
)
from forecastd.runtime.kernels.tiles import PANEL
from forecastd.runtime.kernels.vectors import LANES
from forecastd.runtime.stepper import CODES
from forecastd.series import NEVER, FloatArray, Frequency, IntArray, Signature

OUT_NUMBERS_MAX = 1 << 22
CAPACITY_MAX, CAPACITY_MIN = 4096, 64
LATEST = "latest"
"""The field of a row that holds what the last layer gave, where no layer remembers."""

CLOCK_KINDS = {"hour": t.HOUR, "weekday": t.WEEKDAY, "yearday": t.YEARDAY, "season": t.SEASON_CLOCK}
_PLACES = {VALUE: t.VALUES_PLACE, CHANGE: t.CHANGES_PLACE, OBSERVED: t.OBSERVED_PLACE}
HEAD_KINDS = {
    "point": t.QUANTILES,
    "quantile": t.QUANTILES,
    "gaussian": t.NORMAL,
    "responses": t.RESPONSES,
    "classes": t.CLASSES,
}
_FREQUENCIES = {"duration": t.DURATION, "month": t.MONTH, "count": t.COUNT}


def new_arena(spec: NetworkSpec, series_max: int) -> Arena:
    """Return an arena whose rows are those of the torch stepper: checkpoints move between both."""
    channels, lags = spec.features.channels, spec.features.lags
    moments = 2 if spec.features.scaling == "running" else 0
    exact, single = np.dtype(np.float64), np.dtype(np.float32)
    fields: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "encoder.seen": (exact, (channels,)),
        "encoder.mean": (exact, (channels, moments)),
        "encoder.variance": (exact, (channels, moments)),
        "encoder.latest": (single, (channels,)),
        "encoder.ring": (single, (lags,)),
    }
    wiring = wiring_of(spec)
    for node in wiring.nodes:
        for name, shape in node.facts.state.items():
            fields[f"layers.{node.name}.{name}"] = (single, shape)
    if not any(node.facts.state for node in wiring.nodes):  # none says what it gave
        fields[LATEST] = (single, wiring.output.sizes)
    fields[CODES] = (np.dtype(np.int64), (len(spec.features.vocabulary),))
    layout = row_layout(fields)
    return Arena(layout, series_max, blank_row(layout))


@dataclass
class Batch:
    """The arrays of a micro-batch that Python fills and reads; rows as in kernels.table."""

    slots: IntArray
    times: IntArray
    values: FloatArray
    given: NDArray[np.uint8]
    status: NDArray[np.uint8]
    out: FloatArray

    @classmethod
    def of(cls, spec: NetworkSpec) -> Batch:
        """Allocate as many rows as keep the forecasts within bounds."""
        numbers = spec.head.outputs or max(1, len(spec.head.quantiles))
        fitting = OUT_NUMBERS_MAX // (spec.head.horizon * numbers)
        capacity = int(np.clip(fitting, CAPACITY_MIN, CAPACITY_MAX))
        return cls(
            slots=np.zeros(capacity, np.int64),
            times=np.zeros(capacity, np.int64),
            values=np.zeros((capacity, spec.features.channels), np.float32),
            given=np.zeros(capacity, np.uint8),
            status=np.zeros(capacity, np.uint8),
            out=np.zeros((capacity, spec.head.horizon, numbers), np.float32),
        )

    @property
    def capacity(self) -> int:
        """How many rows fit."""
        return len(self.slots)


class Program:
    """The table of one thread, and all that its addresses lead to.

    rows, counts: what this thread steps, and what it counts; see kernels.table. share: the
    program of another thread whose weights are used too.
    """

    def __init__(
        self, artifact: Artifact, arena: Arena, batch: Batch, share: Program | None = None
    ) -> None:
        self.table = np.zeros(t.TABLE_WORDS, np.int64)
        self._kept: list[NDArray[Any]] = [] if share is None else [*share._kept]
        self._spec, self._arena = artifact.spec, arena
        self.rows = np.zeros(batch.capacity, np.int64)
        self.counts = np.zeros(2, np.int64)
        if share is None:
            self._waves = np.zeros(arena.series_max, np.int32)
            self._weights = PackedWeights(artifact.weights, artifact.spec)
        else:
            self._waves, self._weights = share._waves, share._weights
        self._describe_batch(batch)
        self._describe_arena()
        self._describe_features(artifact.signature, artifact.max_gap)
        self._describe_layers()
        self._describe_work()

    def use_ahead(self, ahead: FloatArray, valid: NDArray[np.uint8]) -> None:
        """Turn latency mode on: ahead [slots, ahead_width], valid [slots]."""
        table = self.table
        table[t.AHEAD_AT], table[t.AHEAD_BYTES] = self._address(ahead), ahead.strides[0]
        table[t.AHEAD_VALID_AT] = self._address(valid)

    @property
    def ahead_width(self) -> int:
        """How many float32 a series' gates take when they are made ahead."""
        recurrent = (layer for layer in self._weights.layers if layer.kind != t.LINEAR)
        return sum(padded(layer.units) * 4 for layer in recurrent)

    def _address(self, array: NDArray[Any]) -> int:
        self._kept.append(array)
        return int(array.ctypes.data)

    def _describe_batch(self, batch: Batch) -> None:
        table, address = self.table, self._address
        table[t.SLOTS_AT], table[t.TIMES_AT] = address(batch.slots), address(batch.times)
        table[t.VALUES_AT], table[t.GIVEN_AT] = address(batch.values), address(batch.given)
        table[t.FORECAST_STEPS] = 1
        table[t.STATUS_AT], table[t.OUT_AT] = address(batch.status), address(batch.out)
        table[t.ROWS_AT], table[t.COUNTS_AT] = address(self.rows), address(self.counts)

    def _describe_arena(self) -> None:
        table, layout = self.table, self._arena.layout
        table[t.ARENA_AT] = self._address(self._arena.rows)
        table[t.ROW_BYTES] = layout.itemsize
        table[t.INITIAL_AT] = self._address(blank_row(layout))
        table[t.DIRTY_AT] = self._address(self._arena.dirty)
        for place, name in (
            (t.SEEN_OFFSET, "encoder.seen"),
            (t.MEAN_OFFSET, "encoder.mean"),
            (t.VARIANCE_OFFSET, "encoder.variance"),
            (t.LATEST_OFFSET, "encoder.latest"),
            (t.RING_OFFSET, "encoder.ring"),
            (t.CODES_OFFSET, CODES),
            (t.LAST_TIME_OFFSET, "last_time"),
            (t.STEPS_OFFSET, "steps"),
        ):
            table[place] = _offset(layout, name)

    def _describe_features(self, signature: Signature, max_gap: int) -> None:
        table, features = self.table, self._spec.features
        clocks = np.array([CLOCK_KINDS[name] for name in features.clocks], np.int64)
        table[t.CHANNELS], table[t.LAGS] = features.channels, features.lags
        table[t.RATES_AT] = self._address(np.array(scale_rates(features.half_life)))
        if self._weights.scale is not None:
            table[t.SCALE_AT] = self._address(self._weights.scale)
        for part, place in _PLACES.items():
            given = part in features.parts
            order = features.parts.index(part) if given else 0
            table[place] = 4 * features.channels * order if given else -1
        table[t.CLOCKS_PLACE] = 4 * features.channels * len(features.parts)
        table[t.CLOCKS], table[t.CLOCK_KINDS_AT] = len(clocks), self._address(clocks)
        table[t.COLUMNS] = len(features.vocabulary)
        table[t.EMBEDDING] = features.embedding
        tables = [self._address(values) for values in self._weights.embeddings]
        table[t.EMBEDDINGS_AT] = self._address(np.array(tables, np.int64))
        frequency: Frequency = signature.frequency
        table[t.FREQUENCY_KIND] = _FREQUENCIES[frequency.kind]
        table[t.FREQUENCY_SIZE], table[t.SEASON] = frequency.size, signature.season
        table[t.MAX_GAP] = max_gap

    def _describe_layers(self) -> None:
        table, layers = self.table, live_layers(self._spec)
        words = np.zeros((len(layers), t.LAYER_WORDS), np.int64)
        inputs, ahead = self._spec.features.width, 0
        for word, layer, packed in zip(words, layers, self._weights.layers, strict=True):
            stride = packed.recurrent + inputs + LANES
            buffer = np.zeros((t.BLOCK_ROWS + 1, stride), np.float32)
            numbers = {
                t.LAYER_KIND: packed.kind,
                t.LAYER_INPUTS: inputs,
                t.LAYER_HIDDEN: packed.units,
                t.LAYER_RECURRENT: packed.recurrent,
                t.LAYER_TAPS: packed.taps,
                t.LAYER_DILATION: packed.dilation,
                t.LAYER_ACTIVATION: layer.activation,
                t.LAYER_WEIGHTS_AT: self._address(packed.weights),
                t.LAYER_BIAS_AT: self._address(packed.bias),
                t.LAYER_PEEPHOLES_AT: self._address(packed.peepholes),
                t.LAYER_BUFFER_AT: self._address(buffer),
                t.LAYER_STRIDE: stride,
                t.LAYER_AHEAD_OFFSET: 4 * ahead,
                **self._memory_of(layer.spec.name),
            }
            word[list(numbers)] = list(numbers.values())
            inputs = packed.units
            ahead += 0 if layer.is_linear else 4 * padded(packed.units)
        table[t.LAYERS], table[t.LAYERS_AT] = len(layers), self._address(words)
        remembering = np.flatnonzero(words[:, t.LAYER_HIDDEN_OFFSET])
        table[t.RECALLED] = remembering[-1] if len(remembering) else len(layers) - 1
        if not len(remembering):
            words[-1, t.LAYER_LATEST_OFFSET] = _offset(self._arena.layout, LATEST)
        self._describe_head(inputs)

    def _memory_of(self, layer: str) -> dict[int, int]:
        """Return where in a series' row a layer has its memory; of a GRU it is cell and output."""
        layout, prefix = self._arena.layout, f"layers.{layer}."
        assert layout.names is not None
        places = {
            n.removeprefix(prefix): _offset(layout, n) for n in layout.names if n.startswith(prefix)
        }
        memory = places.get("hidden", places.get("past", 0))
        return {t.LAYER_HIDDEN_OFFSET: memory, t.LAYER_CELL_OFFSET: places.get("cell", memory)}

    def _describe_head(self, width: int) -> None:
        table, head, weights = self.table, self._spec.head, self._weights
        stride = padded(width + head.lags) + LANES
        numbers = head.outputs or max(1, len(head.quantiles))
        table[t.HORIZON] = head.outputs or head.horizon
        table[t.OUT_NUMBERS] = head.horizon * numbers
        table[t.HEAD_KIND] = HEAD_KINDS[head.kind]
        if not head.linear and live_layers(self._spec)[-1].activation == t.SOFTMAX:
            table[t.HEAD_KIND] = t.RESPONSES  # they are shares already
        table[t.BELOW] = sum(quantile < 0.5 for quantile in head.quantiles)
        table[t.ABOVE] = sum(quantile > 0.5 for quantile in head.quantiles)
        table[t.HEAD_WIDTH], table[t.HEAD_STRIDE] = width, stride
        work = np.zeros((t.BLOCK_ROWS + 1, stride), np.float32)
        table[t.HEAD_INPUT_AT] = self._address(work)
        if weights.centre is not None:
            table[t.CENTRE_AT] = self._dense(*weights.centre)
        if weights.steps is not None:
            table[t.STEPS_AT] = self._dense(*weights.steps)
        levels = [NormalDist().inv_cdf(quantile) for quantile in head.quantiles or (0.5,)]
        table[t.LEVELS] = len(levels)
        table[t.LEVELS_AT] = self._address(np.array(levels, np.float32))
        as_it_is = np.tile(np.array([0, 1], np.float32), (max(1, head.outputs), 1))
        responses = as_it_is if weights.responses is None else weights.responses
        table[t.RESPONSES_AT] = self._address(responses)

    def _dense(self, weights: FloatArray, bias: FloatArray) -> int:
        """Return the address of the words of a map: weights [outputs, inputs], bias [outputs]."""
        outputs, inputs = weights.shape
        panels = -(-outputs // PANEL)
        out = np.zeros((panels, t.BLOCK_ROWS, PANEL), np.float32)
        if outputs <= t.FEW_OUTPUTS:
            packed = np.zeros((outputs, padded(inputs)), np.float32)
            packed[:, :inputs] = weights
        else:
            packed, bias = panels_of(weights), np.pad(bias, (0, panels * PANEL - outputs))
        words = np.zeros(t.DENSE_WORDS, np.int64)
        words[t.DENSE_INPUTS], words[t.DENSE_OUTPUTS] = inputs, outputs
        words[t.DENSE_WEIGHTS_AT] = self._address(packed)
        words[t.DENSE_BIAS_AT] = self._address(np.ascontiguousarray(bias))
        words[t.DENSE_OUT_AT] = self._address(out)
        return self._address(words)

    def _describe_work(self) -> None:
        table, capacity, rows = self.table, len(self.rows), t.BLOCK_ROWS
        features = self._spec.features
        cached = np.zeros((t.CLOCK_CACHE_ROWS, 1 + len(features.clocks)), np.int64)
        cached[:, 0] = NEVER
        work: dict[int, NDArray[Any]] = {
            t.WAVE_AT: self._waves,
            t.RANK_AT: np.zeros(capacity, np.int32),
            t.ORDER_AT: np.zeros(capacity, np.int64),
            t.STARTS_AT: np.zeros(capacity + 2, np.int64),
            t.BLOCK_AT: np.zeros((rows + 1, t.BLOCK_WORDS), np.int64),
            t.HEAD_ROWS_AT: np.zeros(rows, np.int64),
            t.LOCATION_AT: np.zeros(rows, np.float64),
            t.SPREAD_AT: np.zeros(rows, np.float64),
            t.GATES_AT: np.zeros(t.BLOCK_ROWS * PANEL, np.float32),
            t.TAIL_AT: np.zeros(2 * LANES, np.float32),
            t.CLOCK_CACHE_AT: cached,
            t.NOTHING_AT: np.full(features.channels, np.nan, np.float32),
        }
        for place, array in work.items():
            table[place] = self._address(array)


def _offset(layout: np.dtype[np.void], name: str) -> int:
    assert layout.fields is not None
    return int(layout.fields[name][1])
