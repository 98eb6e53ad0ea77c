"""A bounded look at a data set of any size: some rows, and whether values repeat.

A small data set is looked at whole. Of a large one a few stretches of rows, spread over all of
it, stand for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.inputs import Inputs, inputs_of
from forecastd.data.preparing import rows_in
from forecastd.data.reader import BATCH_ROWS, concat

ROWS_MAX = 1 << 18
CELLS_MAX = 1 << 24
ROWS_MIN = 1 << 10
STRETCHES = 16
KEPT_MAX = 1 << 18
"""Values that are remembered to see whether one comes again."""

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Sample:
    """Rows of a data set. stretches: those that follow one another in it, cut from `frame`.

    whole: they are all there are.
    """

    inputs: Inputs
    schema: pl.Schema
    stretches: list[pl.DataFrame]
    frame: pl.DataFrame
    whole: bool

    def repeats(self, names: list[str]) -> bool:
        """Tell whether any values of some columns come again in the data set, nulls aside.

        Rows beyond the sample are asked only where the sample does not show it. Of a great many
        values a part chosen by their hashes stands for all.
        """
        if _repeated(_hashes(self.frame, names)):
            return True
        return not self.whole and _repeated_anywhere(self.inputs, self.schema, names)


def sample_of(path_text: str) -> Sample:
    """Read a sample. Raises DataError for what cannot be read."""
    inputs = inputs_of(path_text)
    schema = schema_of_inputs(inputs)
    limit = max(ROWS_MIN, min(ROWS_MAX, CELLS_MAX // max(1, len(schema))))
    rows = rows_in(inputs, 1)
    if rows is None:
        stretches, whole = _thinned(read_batches(inputs, Selection(schema, limit // STRETCHES)))
    elif rows <= limit:
        stretches, whole = [concat(schema, read_batches(inputs, Selection(schema, limit)))], True
    else:
        stretches, whole = list(_heads(inputs, Selection(schema, limit // STRETCHES))), False
    if whole:
        stretches = [concat(schema, stretches)]
    return Sample(inputs, schema, stretches, concat(schema, stretches), whole)


def _heads(inputs: Inputs, wanted: Selection) -> Iterator[pl.DataFrame]:
    """Yield the heads of some row groups of some files, evenly spread."""
    files = inputs.files[:: -(-len(inputs.files) // STRETCHES)]
    wanted = replace(wanted, heads=max(1, STRETCHES // len(files)))
    yield from read_batches(replace(inputs, files=files), wanted)


def _thinned(frames: Iterator[pl.DataFrame]) -> tuple[list[pl.DataFrame], bool]:
    """Keep every n-th batch, n a power of two that leaves few; say whether that is all."""
    kept: list[pl.DataFrame] = []
    stride = 1
    for number, frame in enumerate(frames):
        if number % stride:
            continue
        kept.append(frame)
        if len(kept) > STRETCHES:
            kept, stride = kept[::2], 2 * stride
    return kept, stride == 1


def _repeated_anywhere(inputs: Inputs, schema: pl.Schema, names: list[str]) -> bool:
    """Read some columns and tell whether values of them repeat."""
    wanted = Selection(pl.Schema({name: schema[name] for name in names}), BATCH_ROWS)
    limit = np.uint64(np.iinfo(np.uint64).max)
    kept: list[Hashes] = []
    count = 0
    for frame in read_batches(inputs, wanted):
        hashes = _hashes(frame, names)
        kept.append(hashes[hashes <= limit])
        count += len(kept[-1])
        if count > KEPT_MAX:
            together = np.concatenate(kept)
            if _repeated(together):
                return True
            # All rows of a value have one hash: they stay together, or go together.
            limit = limit // np.uint64(2)
            kept = [together[together <= limit]]
            count = len(kept[0])
    return bool(kept) and _repeated(np.concatenate(kept))


def _hashes(frame: pl.DataFrame, names: list[str]) -> Hashes:
    chosen = frame.select(names).drop_nulls()
    texts = pl.col(pl.Categorical, pl.Enum).cast(pl.String)  # codes mean nothing between batches
    return chosen.with_columns(texts).hash_rows().to_numpy()


def _repeated(hashes: Hashes) -> bool:
    return len(np.unique(hashes)) < len(hashes)
