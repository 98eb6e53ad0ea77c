"""A data set as long frames in file order, whatever its layout.

Long and wide frames, one series or many, become the same table; the store, the check and the
replay all start from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from forecastd.config import DataSettings
from forecastd.data.batches import Selection, read_batches, schema_of_file, schema_of_inputs
from forecastd.data.frames import CELLS_MAX, Shapes, is_frame, shapes_in, spread, spread_names
from forecastd.data.inputs import Inputs, inputs_of, is_uri
from forecastd.data.labels import answered, lacking_in, with_classes, with_nulls
from forecastd.data.layouts import SERIES_AT_ONCE, columns_rolled, is_rolled, unrolled
from forecastd.data.reader import require_columns, stamps_of
from forecastd.data.where import columns_in, parse
from forecastd.data.wide import Wide, rows_known
from forecastd.errors import DataError
from forecastd.series import Task

WIDE_ID, WIDE_TARGET = "unique_id", "y"
"""What the series and their values are called when each column of a frame is a series."""


@dataclass(frozen=True)
class Columns:
    """Names and roles of the columns. id: None where the data is one series.

    past: channels; a column of frames is one for each element. frames: the shapes of such columns.
    task: what the targets are for; classes: the labels by the code that stands for each; cap: what
    larger targets count as. The targets of a regression may be several: target, then more_targets.
    """

    id: str | None
    time: str
    target: str
    past: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    time_zone: bool = False
    frames: Shapes = field(default_factory=dict)
    task: Task = "forecast"
    classes: tuple[str, ...] = ()
    more_targets: tuple[str, ...] = ()
    cap: float | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to forecast or to answer, the first of `channels`."""
        return (self.target, *self.more_targets)

    @property
    def channels(self) -> tuple[str, ...]:
        """The numeric columns of a store: the targets, then past covariates."""
        return (*self.targets, *self.past)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The numeric columns of an observation: a model is to find answers, so they are none."""
        return self.channels if self.task == "forecast" else self.past


def columns_of(data: DataSettings, schema: Mapping[str, pl.DataType] | None = None) -> Columns:
    """Return the roles after a wide frame is folded into a long one.

    schema: the types of the columns, where some may hold frames. Raises DataError for unfit frames.
    """
    if data.wide:
        return Columns(WIDE_ID, data.time, WIDE_TARGET)
    kinds = schema or {}
    shapes = shapes_in(kinds, [name for name in data.past if name in kinds])
    for name in data.static:
        if name in kinds and is_frame(kinds[name]):
            message = f"the static column {name!r} holds frames"
            raise DataError(message, hint="name it in past, or leave it out")
    return Columns(
        data.id,
        data.time,
        data.target[0],
        tuple(spread_names(data.past, shapes)),
        tuple(data.static),
        frames=shapes,
        task=data.task.kind,
        classes=tuple(data.task.classes or ()),
        more_targets=tuple(data.target[1:]),
        cap=data.task.cap,
    )


def channels_of(data: DataSettings, inputs: Inputs) -> int:
    """Return how many channels a data set has, by the types in its first file. Raises DataError."""
    if data.wide or not data.past:
        return len(columns_of(data).channels)
    found = schema_of_file(inputs, inputs.files[0])
    return len(columns_of(data, found).channels)


def resolve(data: DataSettings, base: Path) -> str:
    """Return where the data lies; a relative path starts at `base`, a URI stays."""
    return data.path if is_uri(data.path) else str(base / Path(data.path).expanduser())


@dataclass(frozen=True)
class LongBatches:
    """A data set as long frames in file order, read as they are asked for.

    columns: names and roles. counted: the times are integers, else stamps. frames: only the
    needed columns, types as found save that text of times is parsed; no two differ in schema.
    schema: that of each frame. sentinels: how many of each column were taken as missing, complete
    when `frames` has ended. file: which of the files the newest frame is from. found: the types of
    the columns in the files.
    """

    columns: Columns
    counted: bool
    frames: Iterator[pl.DataFrame]
    schema: pl.Schema
    sentinels: dict[str, int]
    file: Callable[[], int]
    found: pl.Schema


def long_batches(data: DataSettings, base: Path, batch_rows: int) -> LongBatches:
    """Open a data set to be read once, at most about `batch_rows` rows at a time; see below."""
    inputs = inputs_of(resolve(data, base))
    return batches_of(data, inputs, batch_rows, range(len(inputs.files)))


def batches_of(
    data: DataSettings, inputs: Inputs, batch_rows: int, files: Iterable[int]
) -> LongBatches:
    """Open some files of a data set to be read once, at most about `batch_rows` rows at a time.

    A wide frame is folded column after column (see `Wide`); a row that is a whole series becomes a
    row for each value. Raises DataError for whatever is wrong with the files or their columns, also
    while the frames are read.
    """
    data = with_classes(data, inputs)
    schema = schema_of_inputs(inputs)
    lacking = lacking_in(schema, data)
    where = None if data.where is None else parse(data.where)
    needed = _needed(data)
    looked_at = [] if where is None else columns_in(where)
    rolled = is_rolled(schema, data)
    looked_at += columns_rolled(data, schema) if rolled else []
    require_columns(inputs.text, [*schema, *lacking], [*needed, *looked_at])
    names = dict.fromkeys([*needed, *looked_at])
    wanted = pl.Schema({name: schema.get(name, pl.Float32()) for name in names})
    columns = columns_of(data, wanted)
    shapes, counts = columns.frames, dict.fromkeys(columns.channels, 0)
    place, chosen, numbers = _Place(), list(files), [*data.target, *data.past]

    def read(names: Sequence[str], at_once: int) -> Iterator[pl.DataFrame]:
        """Read the needed columns, of those that hold numbers only `names`."""
        kept = [name for name in needed if name in names or name not in numbers]
        some = {n: wanted[n] for n in dict.fromkeys([*kept, *looked_at]) if n not in lacking}
        found = _read(inputs, Selection(pl.Schema(some), at_once, where), chosen, place)
        raw = with_nulls(found, lacking)
        raw = answered(unrolled(raw, data, batch_rows) if rolled else _timed(raw, data.time), data)
        raw = spread((frame.select(kept) for frame in raw), shapes) if shapes else raw
        shaped = _without_sentinels(raw, spread_names(names, shapes), data, counts)
        return (frame.select(spread_names(kept, shapes)) for frame in shaped)

    if data.wide:
        some_files = replace(inputs, files=tuple(inputs.files[n] for n in chosen))
        wide = _wide(data, rows_known(some_files), wanted, read)
        frames = wide.folded(batch_rows)
    else:
        some = max(1, CELLS_MAX // len(columns.channels)) if shapes else batch_rows
        frames = read(numbers, SERIES_AT_ONCE if rolled else min(batch_rows, some))
    first = next(frames, None)
    if first is None:
        first = pl.DataFrame(schema=wanted).select(needed)
        first = wide.long(first, data.target) if data.wide else next(spread(iter([first]), shapes))
    kind = first.schema[data.time]
    return LongBatches(
        columns=replace(columns, time_zone=getattr(kind, "time_zone", None) is not None),
        counted=kind.is_integer(),
        frames=itertools.chain([first] if first.height else [], frames),
        schema=first.schema,
        sentinels=counts,
        file=lambda: place.file,
        found=wanted,
    )


def _needed(data: DataSettings) -> list[str]:
    """Return the columns that have a role."""
    return [*([data.id] if data.id else []), data.time, *data.target, *data.past, *data.static]


def _wide(
    data: DataSettings,
    rows: int | None,
    wanted: pl.Schema,
    read: Callable[[Sequence[str], int], Iterator[pl.DataFrame]],
) -> Wide:
    kind = pl.DataFrame(schema=wanted).unpivot(data.target)["value"].dtype
    return Wide(data.target, data.time, rows, kind, read, (WIDE_ID, WIDE_TARGET))


@dataclass
class _Place:
    file: int = 0


def _read(
    inputs: Inputs, wanted: Selection, files: Iterable[int], place: _Place
) -> Iterator[pl.DataFrame]:
    """Read some files, and keep in `place` which one it is."""
    for number in files:
        place.file = number
        yield from read_batches(replace(inputs, files=(inputs.files[number],)), wanted)


def _timed(frames: Iterator[pl.DataFrame], time: str) -> Iterator[pl.DataFrame]:
    """Parse times that are text; all batches have a zone, or none has."""
    found: pl.DataType | None = None
    for frame in frames:
        if frame[time].dtype != pl.String:
            yield frame
            continue
        if frame[time].null_count() == frame.height:
            yield frame.with_columns(pl.col(time).cast(found or pl.Datetime("us")))
            continue
        parsed = frame.with_columns(stamps_of(frame[time]))
        found = found or parsed[time].dtype
        if parsed[time].dtype != found:
            message = f"the time column {time!r} has stamps with and without a zone"
            raise DataError(message, hint="write all stamps with a zone, or none")
        yield parsed


def _without_sentinels(
    frames: Iterator[pl.DataFrame],
    names: Sequence[str],
    data: DataSettings,
    counts: dict[str, int],
) -> Iterator[pl.DataFrame]:
    """Put nulls where numbers of the columns `names` mean a missing value, and count them."""
    if not data.sentinels:
        yield from frames
        return
    if data.task.kind == "classification":  # a code is no number that was found
        names = [name for name in names if name not in data.target]
    for frame in frames:
        hits = frame.select(
            pl.col(name).cast(pl.Float64).is_in(data.sentinels).fill_null(value=False)
            for name in names
        )
        for name in names:
            counts[WIDE_TARGET if data.wide else name] += int(hits[name].sum())
        yield frame.with_columns(pl.when(~hits[name]).then(frame[name]) for name in names)
