"""Opens a data set the way a trained model names it, and refuses one that it does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from forecastd.data.frames import shape_text
from forecastd.data.frequency import DIFFERENCES_MAX, infer_frequency
from forecastd.data.preparing import MONTHS_SERIES, PREPARING, Preparing
from forecastd.data.roles import settings_for_model
from forecastd.data.store import Store, prepare
from forecastd.data.table import Columns
from forecastd.errors import DataError
from forecastd.series import Signature

STEP_RATIO_MAX = 1.5


def store_for_model(
    signature: Signature,
    max_gap: int,
    path: str,
    folder: Path,
    also: tuple[str, ...] = (),
    how: Preparing = PREPARING,
) -> Store:
    """Prepare the data set `path` in `folder` with the columns and the grid of a model.

    Answers that the model is to give need not be in the data; they are missing then.

    also: static columns to read that are none of the model's. Raises DataError when a column is
    missing or the data steps at another pace.
    """
    columns = replace(columns_for(signature), static=(*signature.static, *also))
    settings = settings_for_model(path, columns, signature.frequency)
    grid = {"season": signature.season, "max_gap": max_gap}
    settings, here = settings.model_copy(update=grid), Path.cwd()
    store = prepare(settings, here, folder, memory_bytes=how.memory_bytes, report=how.report)
    _require_shapes(store, signature, path)
    _require_pace(store, signature, path)
    return store


def columns_for(signature: Signature) -> Columns:
    """Return the columns of a data set that a model reads, its targets among them."""
    return Columns(
        id=signature.id,
        time=signature.time,
        target=signature.target,
        past=signature.past,
        static=signature.static,
        time_zone=signature.time_zone,
        frames=signature.frames,
        task=signature.task,
        classes=signature.classes,
        more_targets=signature.more_targets,
        cap=signature.cap,
    )


def _require_shapes(store: Store, signature: Signature, path: str) -> None:
    for name, shape in signature.frames.items():
        found = store.columns.frames.get(name, [])
        if list(found) != list(shape):
            what = f"frames of {shape_text(found)}" if found else "no frames"
            message = f"column {name!r} of {path} holds {what}, the model reads {shape_text(shape)}"
            raise DataError(message, hint="write the frames in the model's shape")


def _require_pace(store: Store, signature: Signature, path: str) -> None:
    # As many series as the judgement looks at: see `frequency_of`.
    differences = store.offsets - np.arange(store.series_count + 1)
    enough = max(MONTHS_SERIES, int(np.searchsorted(differences, DIFFERENCES_MAX)))
    times = [
        np.asarray(store.times[rows][store.observed[rows]])
        for rows in map(store.rows_of, range(min(enough, store.series_count)))
    ]
    times = [stamps for stamps in times if len(stamps) > 2]
    expected = signature.frequency
    if not times:
        return
    found, _ = infer_frequency(times, counted=expected.kind == "count")
    ratio = found.size / expected.size
    if found.kind != expected.kind or not 1 / STEP_RATIO_MAX <= ratio <= STEP_RATIO_MAX:
        message = f"{path} steps by {found}, but the model was trained on steps of {expected}"
        raise DataError(message, hint="resample the data, or train a model on this frequency")
