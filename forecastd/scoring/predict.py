"""What a model says of a whole data set, as a Parquet file: of every row, or of the last ones.

Forecasts are open-loop: the states are carried from the first row of each series, as the daemon
carries them, so both give the same numbers. A regression or a classification says what the target
is at each row; where its network says one thing of a whole series, it does so at its last row.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from forecastd.artifact import Artifact
from forecastd.data.lanes import pieces_of
from forecastd.data.store import Store
from forecastd.errors import UserError
from forecastd.files import publish_file
from forecastd.network.device import take_threads
from forecastd.network.dropping import dropping
from forecastd.network.sweep import (
    Swept,
    last_pieces,
    newest,
    observed_between,
    says_once,
    sweep,
    window_of,
)
from forecastd.network.walker import Walker
from forecastd.scoring.tables import output_schema, table_of

Report = Callable[[int, int], None]
"""Takes how many rows of the store are done, and how many there are."""


@dataclass(frozen=True)
class Scored:
    """What was written. forecasts: (series, origin) pairs; rows: of the file, one per horizon."""

    path: Path
    series: int
    forecasts: int
    rows: int


def predict(
    artifact: Artifact,
    store: Store,
    target: Path,
    *,
    last: bool = False,
    dropout: int | None = None,
    report: Report = lambda done, total: None,
) -> Scored:
    """Write what a model says of a store to a Parquet file, whole or not at all.

    last: only what is said at the newest observation of each series. dropout: layers drop as in
    training, drawn from this seed; None: nothing is dropped. report: rows done, and in all. Rows
    of one series are in order of cutoff and h; series follow one another in no order.
    """
    take_threads(artifact.spec)
    ends = store.offsets[1:]
    pieces = pieces_of(store, store.offsets[:-1], ends, ends)
    once = artifact.signature.supervised and says_once(artifact.spec)
    if once:
        pieces = last_pieces(pieces)
    wanted = (newest if last else observed_between)(store, store.offsets[:-1], ends)
    codes = artifact.vocabulary.encode(store.keys, store.static)
    walker = Walker(artifact.network, artifact.clocks, codes)
    window = window_of(artifact.provenance)
    drops = contextlib.nullcontext() if dropout is None else dropping(artifact.network, dropout)
    with drops:
        return write(artifact, store, target, sweep(walker, store, pieces, wanted, window), report)


def write(
    artifact: Artifact, store: Store, target: Path, parts: Iterator[Swept], report: Report
) -> Scored:
    """Write what is said of rows, part by part. Raises UserError where the file cannot be."""
    signature, total = artifact.signature, len(store.times)
    done = forecasts = rows = 0
    with published(target, output_schema(signature)) as writer:
        for part in parts:
            if len(part.rows):
                table = table_of(part, store, signature)
                writer.write_table(table)
                forecasts, rows = forecasts + len(part.rows), rows + len(table)
            done += part.steps
            report(min(done, total), total)
    return Scored(target, len(store.keys), forecasts, rows)


@contextlib.contextmanager
def published(target: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Give what writes a Parquet file; it appears whole when the block ends, or not at all.

    Raises UserError where the file cannot be written.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            yield writer
        publish_file(partial, target)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        message = f"cannot write {target}: {reason}"
        raise UserError(message, hint="choose another file with -o") from error
    finally:
        partial.unlink(missing_ok=True)
