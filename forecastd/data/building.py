"""Makes the arrays of a store: rows in order, then their grid, with the holes opened in place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from forecastd.data.gathering import Old, Source, gather
from forecastd.data.grid import default_max_gap
from forecastd.data.preparing import Clock, SortedRows, frequency_of, season_of
from forecastd.data.texts import write_names
from forecastd.data.writing import Lines, open_holes, plan_layout
from forecastd.errors import DataError

OBSERVED_BYTES = 1


def build(source: Source, old: Old | None) -> dict[str, Any]:
    """Write the arrays of a store into the folder and return its header less the fingerprint.

    old: a store of some of the files, whose rows need no reading. Raises DataError for unusable
    data.
    """
    data, folder = source.data, source.folder
    found = gather(source, old)
    if not found.keys:
        message = f"{source.inputs.text} has no row with a time and a series"
        raise DataError(message, hint="check the id and time columns in [data]")
    times = np.load(folder / "times.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
    values = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
    starts = np.append(0, np.cumsum(found.counts))
    frequency, frequency_reason = frequency_of(data, times, starts, found.counted)
    season, season_reason = season_of(data, SortedRows(times, values, starts), frequency)
    max_gap = default_max_gap(season) if data.max_gap is None else data.max_gap
    lines = Lines(times, starts[:-1], frequency, max_gap)
    layout = plan_layout(lines)
    row_bytes = times.itemsize + values.itemsize * values.shape[1] + OBSERVED_BYTES
    clock = Clock(source.tell, "fill", len(times) + layout.filled, row_bytes)
    open_holes(folder, lines, layout, clock.add)
    arrays = {"offsets": layout.offsets, "segments": layout.segments, "spans": found.spans}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    static = {name: texts.tidied() for name, texts in found.static.items()}
    write_names(folder, found.keys, static)
    report = replace(
        found.report,
        holes=layout.holes,
        rows_filled=layout.filled,
        resets=layout.resets,
        frequency_reason=frequency_reason,
        season_reason=season_reason,
    )
    return {
        "columns": vars(found.columns),
        "found": found.found,
        "frequency": str(frequency),
        "season": season,
        "max_gap": max_gap,
        "static": {name: texts.texts for name, texts in static.items()},
        "report": vars(report),
    }
