"""Frames: columns that hold an array of one shape in each row, such as pictures of a video.

The elements of a frame, in row-major order, become channels named `column[0]`, `column[1]` and so
on; the shape is kept beside them. Read are the Arrow extension type `fixed_shape_tensor` and nested
`fixed_size_list` columns of numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from forecastd.errors import DataError

ELEMENTS_MAX = 4096
"""Elements of all frames of a row: each is a channel of the store and an input of the network."""
CELLS_MAX = 1 << 23
"""Numbers of rows with frames that are read at once, whatever the memory that is given."""
TENSOR = "arrow.fixed_shape_tensor"
Shapes = Mapping[str, Sequence[int]]


def channels_in(name: str, shape: Sequence[int]) -> list[str]:
    """Return what the elements of a frame are called as channels."""
    return [f"{name}[{place}]" for place in range(math.prod(shape))]


def spread_names(names: Iterable[str], shapes: Shapes) -> list[str]:
    """Return the names of channels: a frame's column stands for all of its elements."""
    return [
        channel
        for name in names
        for channel in (channels_in(name, shapes[name]) if name in shapes else [name])
    ]


def gathered_names(names: Iterable[str], shapes: Shapes) -> list[str]:
    """Return the columns that hold some channels, as the files name them."""
    known = {n: shape for n, shape in shapes.items() if math.prod(shape) <= ELEMENTS_MAX}
    column_of = {c: name for name, shape in known.items() for c in channels_in(name, shape)}
    return list(dict.fromkeys(column_of.get(name, name) for name in names))


def is_frame(kind: pl.DataType) -> bool:
    """Tell whether a column of a type holds frames."""
    return isinstance(kind, pl.Array) or _tensor(kind) is not None


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as people write it: 3x64x64."""
    return "x".join(map(str, shape))


def type_text(kind: pl.DataType) -> str:
    """Return a type as people read it; of frames the shape and the type of an element."""
    if not is_frame(kind):
        return str(kind)
    return f"frames of {shape_text(_shape_of(kind))} {_element(kind)}"


def shapes_in(schema: Mapping[str, pl.DataType], past: Sequence[str]) -> dict[str, list[int]]:
    """Return the shapes of the frames among the columns `past`.

    Raises DataError for frames of anything but numbers, for dimensions stored in another order,
    and where the frames of a row have more than ELEMENTS_MAX elements.
    """
    shapes = {name: _shape(name, schema[name]) for name in past if is_frame(schema[name])}
    total = sum(math.prod(shape) for shape in shapes.values())
    if total > ELEMENTS_MAX:
        listed = ", ".join(f"{name!r} of {shape_text(shape)}" for name, shape in shapes.items())
        message = f"the frames {listed} have {total:,} elements a row, more than {ELEMENTS_MAX:,}"
        raise DataError(message, hint="make them smaller, or leave some out of past")
    elements = {channel for name, shape in shapes.items() for channel in channels_in(name, shape)}
    if twice := sorted(elements & set(past)):
        message = f"a column is called {twice[0]!r}, as an element of a frame is"
        raise DataError(message, hint="rename the column, or leave it out of past")
    return shapes


def spread(frames: Iterator[pl.DataFrame], shapes: Shapes) -> Iterator[pl.DataFrame]:
    """Put a column for each element in place of each column of frames."""
    for frame in frames:
        parts = [frame.drop(list(shapes))]
        for name, shape in shapes.items():
            column = frame[name].ext.storage() if _tensor(frame.schema[name]) else frame[name]
            flat = column.reshape((-1,)).reshape((frame.height, math.prod(shape)))
            parts.append(flat.arr.to_struct(fields=channels_in(name, shape)).struct.unnest())
        yield pl.concat(parts, how="horizontal")


def _tensor(kind: pl.DataType) -> dict[str, list[int]] | None:
    """Return what a tensor type says of itself; None for other types."""
    if not isinstance(kind, pl.BaseExtension) or kind.ext_name() != TENSOR:
        return None
    found: dict[str, list[int]] = json.loads(kind.ext_metadata() or "{}")
    return found


def _shape(name: str, kind: pl.DataType) -> list[int]:
    """Return the shape of a column of frames. Raises DataError where it cannot be read."""
    shape, element = _shape_of(kind), _element(kind)
    order = (_tensor(kind) or {}).get("permutation", [])
    if not (element.is_numeric() or element == pl.Boolean):
        message = f"the frames in column {name!r} hold {element}, no numbers"
        raise DataError(message, hint="convert them first, or leave the column out of past")
    if order != sorted(order):
        message = f"the frames in column {name!r} store their dimensions in the order {order}"
        raise DataError(message, hint="write them row-major, without a permutation")
    if math.prod(shape) == 0:
        message = f"the frames in column {name!r} of shape {shape_text(shape)} have no element"
        raise DataError(message, hint="leave the column out of past")
    return shape


def _shape_of(kind: pl.DataType) -> list[int]:
    tensor = _tensor(kind)
    if tensor is not None:
        return tensor["shape"]
    assert isinstance(kind, pl.Array)
    return list(kind.shape)


def _element(kind: pl.DataType) -> pl.DataType:
    """Return the type of an element of frames."""
    element: Any = kind.ext_storage() if isinstance(kind, pl.BaseExtension) else kind
    while isinstance(element, pl.Array):
        element = element.inner
    found: pl.DataType = element
    return found
