"""Labels of a classification: which there are, and the numbers that stand for them in a store.

A label is text, a truth value or a whole number, and is one thing in whichever of these forms it
is written. Its code is its place among the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from forecastd.config import DataSettings
from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.inputs import Inputs
from forecastd.data.reader import BATCH_ROWS, require_columns
from forecastd.data.where import columns_in, parse
from forecastd.errors import DataError

CLASSES_MAX = 4096
"""A column with more different values is no label."""


def with_classes(data: DataSettings, inputs: Inputs) -> DataSettings:
    """Return settings that name the classes: where they do not, those found in the data, sorted.

    The label's column is read once for it, in bounded memory. Raises DataError where it holds no
    labels, only one, or more than CLASSES_MAX.
    """
    task = data.task
    if task.kind != "classification" or task.classes is not None:
        return data
    found = task.model_copy(update={"classes": _classes_in(data, inputs)})
    return data.for_task(found, unlabelled=data.unlabelled)


def lacking_in(schema: Mapping[str, pl.DataType], data: DataSettings) -> list[str]:
    """Return the targets that the files lack, where they may."""
    return [name for name in data.target if name not in schema] if data.unlabelled else []


def with_nulls(frames: Iterator[pl.DataFrame], names: Iterable[str]) -> Iterator[pl.DataFrame]:
    """Add columns of nulls, which the files lack."""
    nulls = [pl.lit(None, pl.Float32).alias(name) for name in names]
    return (frame.with_columns(nulls) for frame in frames) if nulls else frames


def answered(frames: Iterator[pl.DataFrame], data: DataSettings) -> Iterator[pl.DataFrame]:
    """Put float32 codes for labels, null where none of the classes; the cap for larger responses.

    data: as `with_classes` returned it.
    """
    task = data.task
    if task.kind == "classification":
        label = data.target[0]
        codes = {name: float(code) for code, name in enumerate(task.classes or [])}
        for frame in frames:
            texts = label_texts(frame[label])
            known = texts.replace_strict(codes, default=None, return_dtype=pl.Float32)
            yield frame.with_columns(known.alias(label))
    else:
        capped = (
            [] if task.cap is None else [pl.col(n).clip(upper_bound=task.cap) for n in data.target]
        )
        for frame in frames:
            yield frame.with_columns(capped) if capped else frame


def label_texts(column: pl.Series) -> pl.Series:
    """Return labels as text: 1, 1.0 and "1" are one label. Raises DataError for what is none."""
    kind = column.dtype
    if kind.is_float() or kind.is_decimal():
        whole = column.cast(pl.Float64).fill_nan(None)
        if not (whole.drop_nulls() % 1 == 0).all():
            message = f"the column {column.name!r} holds fractions, so it is no label"
            raise DataError(message, hint='name another target, or set kind = "regression"')
        column, kind = whole.cast(pl.Int64), pl.Int64()
    textual = kind in {pl.String, pl.Boolean, pl.Null} or isinstance(kind, pl.Categorical | pl.Enum)
    if not (textual or kind.is_integer()):
        message = f"the column {column.name!r} holds values of type {kind}, no labels"
        raise DataError(message, hint="a label is text, a whole number, or true and false")
    return column.cast(pl.String)


def _classes_in(data: DataSettings, inputs: Inputs) -> list[str]:
    schema, name = schema_of_inputs(inputs), data.target[0]
    require_columns(inputs.text, list(schema), [name])
    where = None if data.where is None else parse(data.where)
    names = [name, *([] if where is None else columns_in(where))]
    require_columns(inputs.text, list(schema), names)
    wanted = pl.Schema({one: schema[one] for one in dict.fromkeys(names)})
    found: set[str] = set()
    for frame in read_batches(inputs, Selection(wanted, BATCH_ROWS, where)):
        column = frame[name]
        column = column.explode() if isinstance(column.dtype, pl.List) else column
        found.update(label_texts(column).drop_nulls().unique().to_list())
        if len(found) > CLASSES_MAX:
            message = f"the column {name!r} has more than {CLASSES_MAX:,} labels"
            raise DataError(message, hint="name another target, or list classes in [task]")
    if len(found) < 2:
        what = f"only the label {next(iter(found))!r}" if found else "no label"
        message = f"the column {name!r} holds {what}, so there is nothing to tell apart"
        raise DataError(message, hint="name another target, or list classes in [task]")
    counts = all(label.removeprefix("-").isdecimal() for label in found)
    return sorted(found, key=int) if counts else sorted(found)
