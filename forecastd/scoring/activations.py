"""What passes inside a network over a data set, step by step, as a Parquet file.

Each series runs from the first row of each of its segments, from the start, as it would live. No
state that is kept anywhere changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from forecastd.artifact import Artifact
from forecastd.data.store import Store
from forecastd.data.table import WIDE_ID
from forecastd.errors import UserError
from forecastd.features.encoder import Inputs
from forecastd.network.inside import Seen, look
from forecastd.network.kinds.contract import OUT
from forecastd.network.wiring import INPUT
from forecastd.scoring.predict import published
from forecastd.scoring.tables import output_schema
from forecastd.series import FloatArray, IntArray

STEPS = 256
"""Observations that run at once, where a network can be followed step by step."""


@dataclass(frozen=True)
class View:
    """What of a data set is looked at.

    layers: names, "input" for what enters the first one; None: all. series: keys; None: all. rows:
    of each series, first and end, counted from 0; what comes before runs too, but is not kept.
    """

    layers: Collection[str] | None = None
    series: Collection[str] | None = None
    rows: tuple[int, int | None] = (0, None)


@dataclass(frozen=True)
class Part:
    """What some steps of a series gave: seen has their values as arrays [T', units].

    steps [T]: rows of the series, from 0. times [T].
    """

    series: str
    steps: IntArray
    times: IntArray
    seen: list[tuple[str, str, FloatArray]]


@dataclass(frozen=True)
class Written:
    """What was written."""

    path: Path
    series: int
    rows: int


def activations(artifact: Artifact, store: Store, view: View) -> Iterator[Part]:
    """Yield what passes inside a network, series by series, their steps in order.

    Raises UserError where the view names a layer or a series that is not there.
    """
    keys = _keys(store, view)
    _require_layers(artifact, view)
    network = artifact.network.eval()
    codes = artifact.vocabulary.encode(store.keys, store.static)
    for place in keys:
        first = int(store.offsets[place])
        for begin, end in _segments(store, place):
            state = network.initial_state(1)
            for start in range(begin, end, chunk := _steps_at_once(artifact, end - begin)):
                rows = slice(start, min(start + chunk, end))
                inputs = _inputs(artifact, store, rows, codes[place : place + 1])
                with torch.inference_mode():
                    seen, state = look(network, inputs, state, view.layers)
                steps = np.arange(rows.start - first, rows.stop - first)
                times = np.asarray(store.times[rows])
                yield from _kept(Part(store.keys[place], steps, times, _arrays(seen)), view.rows)


def write_activations(
    artifact: Artifact,
    store: Store,
    target: Path,
    view: View,
    keep: Callable[[Part], None] = lambda part: None,
) -> Written:
    """Write what passes inside to a Parquet file: a row for each series, step, layer and unit.

    The columns are the id, the time, step (from 0), layer, what, unit (from 0) and value. What is
    one for several steps has the time and step of the last of them; where steps are fewer than
    rows, as after a stride, they are numbered by themselves and have no time. keep: takes each part
    as well. Raises UserError as `activations`, and where the file cannot be written.
    """
    schema = pa.schema([
        (artifact.signature.id or WIDE_ID, pa.string()),
        (artifact.signature.time, output_schema(artifact.signature).field(1).type),
        ("step", pa.int64()), ("layer", pa.string()), ("what", pa.string()),
        ("unit", pa.int32()), ("value", pa.float32()),
    ])  # fmt: skip
    rows, series = 0, set()
    with published(target, schema) as writer:
        for part in activations(artifact, store, view):
            table = pa.concat_tables([schema.empty_table(), *_tables(part, schema)])
            writer.write_table(table)
            rows += len(table)
            series.add(part.series)
            keep(part)
    return Written(target, len(series), rows)


def layer_names(artifact: Artifact) -> list[str]:
    """Return what can be looked at, in the order it runs."""
    return [INPUT, *(node.name for node in artifact.network.layers.wiring.nodes)]


def default_layer(artifact: Artifact) -> str:
    """Return the last layer that remembers, or the last one where none does."""
    nodes = artifact.network.layers.wiring.nodes
    remembering = [node.name for node in nodes if node.facts.state]
    return remembering[-1] if remembering else artifact.network.layers.wiring.last


def _keys(store: Store, view: View) -> list[int]:
    names = store.keys.tolist()
    if view.series is None:
        return list(range(len(names)))
    unknown = sorted(set(view.series) - set(names))
    if unknown:
        message = f"the data have no series {unknown[0]!r}"
        raise UserError(message, hint=f"the first of them are {', '.join(names[:5])}")
    return [place for place, name in enumerate(names) if name in view.series]


def _require_layers(artifact: Artifact, view: View) -> None:
    known = layer_names(artifact)
    unknown = sorted(set(view.layers or ()) - set(known))
    if unknown:
        message = f"the network has no layer {unknown[0]!r}"
        raise UserError(message, hint=f"it has {', '.join(known)}")


def _segments(store: Store, place: int) -> Iterator[tuple[int, int]]:
    """Yield first and end row of each stretch of a series between resets."""
    mine = np.asarray(store.segments)
    for _, begin, end in mine[mine[:, 0] == place]:
        yield int(begin), int(end)


def _steps_at_once(artifact: Artifact, length: int) -> int:
    """Return how many steps run together: all, where one depends on what follows it."""
    wiring = artifact.network.layers.wiring
    per_step = wiring.needs_future() is None and all(
        node.facts.outputs[OUT].time for node in wiring.nodes
    )
    return STEPS if per_step else max(1, length)


def _inputs(artifact: Artifact, store: Store, rows: slice, codes: IntArray) -> Inputs:
    values = np.array(store.values[rows])
    values = values[:, values.shape[1] - artifact.spec.features.channels :]
    times = np.asarray(store.times[rows])
    device = artifact.network.device
    return Inputs(
        torch.from_numpy(values[None]).to(device),
        torch.from_numpy(artifact.clocks(times[None])).to(device),
        torch.from_numpy(codes).to(device),
    )


def _arrays(seen: list[Seen]) -> list[tuple[str, str, FloatArray]]:
    return [(one.layer, one.what, one.values[0].float().numpy(force=True)) for one in seen]


def _kept(part: Part, rows: tuple[int, int | None]) -> Iterator[Part]:
    """Yield what of a part lies in the rows that are kept, if anything does."""
    first, end = rows
    inside = part.steps >= first
    if end is not None:
        inside &= part.steps < end
    if inside.all():
        yield part
    elif inside.any():
        seen = [
            (layer, what, values[inside] if len(values) == len(inside) else values)
            for layer, what, values in part.seen
            if len(values) == len(inside) or inside[-1]
        ]
        yield Part(part.series, part.steps[inside], part.times[inside], seen)


def _tables(part: Part, schema: pa.Schema) -> Iterator[pa.Table]:
    for layer, what, values in part.seen:
        count, units = values.shape
        steps, times = part.steps, pa.array(part.times)
        if count == 1:
            steps, times = steps[-1:], times.slice(len(times) - 1)
        elif count != len(steps):
            steps, times = np.arange(count), pa.nulls(count, pa.int64())
        repeated = pa.array(np.repeat(np.arange(count), units))
        total = count * units
        columns = [
            pa.repeat(part.series, total),
            times.take(repeated).cast(schema.field(1).type),
            pa.array(np.repeat(steps, units)),
            pa.repeat(layer, total),
            pa.repeat(what, total),
            pa.array(np.tile(np.arange(units, dtype=np.int32), count)),
            pa.array(values.reshape(-1)),
        ]
        yield pa.Table.from_arrays(columns, schema=schema)
