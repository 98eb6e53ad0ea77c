"""The store: a data set sorted by (series, time), on its grid, memory-mapped.

A store is made once by `prepare` and reused while its input and options stay the same. Training,
evaluation and scoring read it and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forecastd.config import DataSettings
from forecastd.data.building import build
from forecastd.data.gathering import Old, Source
from forecastd.data.giving_back import give_back
from forecastd.data.inputs import Inputs, inputs_of
from forecastd.data.labels import with_classes
from forecastd.data.preparing import PrepareProgress as PrepareProgress
from forecastd.data.preparing import PrepareReport as PrepareReport
from forecastd.data.preparing import memory_for
from forecastd.data.staging import staging_for
from forecastd.data.table import Columns, channels_of, resolve
from forecastd.data.texts import Static, read_names
from forecastd.errors import DataError
from forecastd.series import FloatArray, Frequency, IntArray, Keys, Signature

FORMAT_VERSION = 3
_ARRAYS = ("offsets", "segments", "times", "values", "observed")


@dataclass(frozen=True)
class Store:
    """S series of N rows in all, each series on the grid of `frequency`.

    keys: [S] sorted. offsets: [S+1] first row of each series, then N. segments: [K, 3] series,
    first row, end row of each stretch between resets of the state. times: [N]. values: [N, C],
    the targets first, NaN where missing. observed: [N] False for rows that were inserted.
    static: one value per series and column. The arrays are memory-mapped and read only.
    """

    folder: Path
    columns: Columns
    frequency: Frequency
    season: int
    max_gap: int
    keys: Keys
    offsets: IntArray
    segments: IntArray
    times: IntArray
    values: FloatArray
    observed: NDArray[np.bool_]
    static: Static
    report: PrepareReport
    fingerprint: str = ""

    @property
    def series_count(self) -> int:
        """S, the number of series."""
        return len(self.keys)

    def rows_of(self, series: int) -> slice:
        """Return the rows of one series."""
        return slice(int(self.offsets[series]), int(self.offsets[series + 1]))

    def signature(self, horizon: int, quantiles: tuple[float, ...]) -> Signature:
        """Return the signature of a model trained on this store."""
        return Signature(
            id=self.columns.id,
            time=self.columns.time,
            target=self.columns.target,
            past=self.columns.past,
            static=self.columns.static,
            frequency=self.frequency,
            season=self.season,
            horizon=horizon,
            quantiles=quantiles,
            time_zone=self.columns.time_zone,
            frames=self.columns.frames,
            task=self.columns.task,
            classes=self.columns.classes,
            more_targets=self.columns.more_targets,
            cap=self.columns.cap,
        )


def prepare(
    data: DataSettings,
    base: Path,
    target_folder: Path,
    *,
    memory_bytes: int | None = None,
    report: Callable[[PrepareProgress], None] = lambda _: None,
) -> Store:
    """Make the store of a data set in `target_folder`, or open it where it is still current.

    data.path starts at `base` unless it is absolute. Rows are sorted by (series, time); of rows
    with one stamp the first in the file counts; holes of at most max_gap steps become rows of
    NaN, longer ones start a new segment. memory_bytes: the budget for rows in memory, whatever
    the size of the input (none: 1 GiB). report: told how far it is. The folder appears whole or
    not at all; what an interrupted call left is removed by the next. Raises DataError for
    unusable data and UserError where the folder cannot be written.
    """
    inputs = inputs_of(resolve(data, base))
    fingerprint = _fingerprint(data, inputs)
    if (target_folder / "store.json").is_file():
        header = _header(target_folder, newer="rebuild")
        if header.get("fingerprint") == fingerprint:
            return open_store(target_folder)
    elif target_folder.is_dir() and any(target_folder.iterdir()):
        message = f"the folder {target_folder} holds other files, so no store is written there"
        raise DataError(message, hint="name an empty or new folder")
    data = with_classes(data, inputs)
    memory = memory_for(memory_bytes, channels_of(data, inputs))
    old = _old(target_folder, fingerprint)
    with staging_for(target_folder) as folder:
        header = build(Source(data, inputs, folder, memory, report), old)
        header["format_version"] = FORMAT_VERSION
        header["fingerprint"] = fingerprint
        with (folder / "store.json").open("w", encoding="utf-8") as file:
            json.dump(header, file, ensure_ascii=False, indent=1)
    del header, old
    return open_store(target_folder)


def open_store(folder: Path) -> Store:
    """Open a store made by `prepare`; its arrays are memory-mapped.

    Raises DataError when it is missing, damaged or of a newer format.
    """
    header = _header(folder, newer="refuse")
    try:
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        }
        columns: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in header["columns"].items()
        }
        keys, static = read_names(folder, header["static"])
        store = Store(
            folder=folder,
            columns=Columns(**columns),
            frequency=Frequency.parse(header["frequency"]),
            season=header["season"],
            max_gap=header["max_gap"],
            keys=keys,
            static=static,
            report=PrepareReport(**header["report"]),
            fingerprint=header["fingerprint"],
            **arrays,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise _damaged(folder) from error
    rows = len(store.times)
    whole = (
        len(store.offsets) == len(store.keys) + 1
        and int(store.offsets[-1]) == rows
        and store.values.shape == (rows, len(store.columns.channels))
        and len(store.observed) == rows
    )
    if not whole:
        raise _damaged(folder)
    del header
    give_back()
    return store


def _fingerprint(data: DataSettings, inputs: Inputs) -> str:
    """Return a text that differs when the input files or the options differ."""
    files = [(file.name, file.size, file.changed_ns) for file in inputs.files]
    options = data.model_dump(exclude={"path"})
    if data.task.supervised:
        options["task"] = data.task.model_dump(exclude={"class_weights"})
    return json.dumps([FORMAT_VERSION, files, options], sort_keys=True)


def _old(folder: Path, fingerprint: str) -> Old | None:
    """Return an older store if it was made alike, of files that are all unchanged; else None."""
    try:
        header = _header(folder, newer="rebuild")
        version, files, options = json.loads(header["fingerprint"])
        now_version, now_files, now_options = json.loads(fingerprint)
        places = {json.dumps(file): number for number, file in enumerate(now_files)}
        number_of = np.array([places[json.dumps(file)] for file in files])
        if (version, options) != (now_version, now_options):
            return None
        store = open_store(folder)
        spans = np.load(folder / "spans.npy", allow_pickle=False)
        spans[:, ::2] = number_of[spans[:, ::2]]
    except (DataError, OSError, ValueError, LookupError, TypeError):
        return None
    return Old(
        columns=store.columns,
        keys=store.keys,
        static=store.static,
        report=store.report,
        spans=spans,
        times=store.times,
        values=store.values,
        observed=store.observed,
        offsets=store.offsets,
        files=frozenset(number_of.tolist()),
        found=header["found"],
    )


def _header(folder: Path, *, newer: Literal["refuse", "rebuild"]) -> dict[str, Any]:
    """Read store.json; `newer` says what a format from the future means."""
    path = folder / "store.json"
    try:
        header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(header["format_version"])
    except FileNotFoundError as error:
        message = f"there is no store in {folder}"
        raise DataError(message, hint="prepare the data set first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        if newer == "rebuild":
            return {}
        raise _damaged(folder) from error
    if version > FORMAT_VERSION and newer == "refuse":
        message = f"the store {folder} has format {version}, newer than {FORMAT_VERSION}"
        raise DataError(message, hint="update forecastd, or delete the folder to prepare it again")
    return header if version == FORMAT_VERSION else {}


def _damaged(folder: Path) -> DataError:
    message = f"the store {folder} is damaged"
    return DataError(message, hint="delete the folder; it is prepared again from the data set")
