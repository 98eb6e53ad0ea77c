"""Parts that are files of their own: read as the training file is, on its grid."""

from __future__ import annotations

from pathlib import Path

from forecastd.config import DataSettings, SplitSettings
from forecastd.data.inputs import inputs_of
from forecastd.data.store import Store
from forecastd.data.table import resolve
from forecastd.errors import DataError


def held_out_files(
    data: DataSettings, settings: SplitSettings, store: Store, base: Path
) -> dict[str, DataSettings | None]:
    """Return how the files of valid and test are read; None where there is no such part.

    store: the one that trains. Raises DataError where a file is missing or is in two parts.
    """
    grid = {"freq": str(store.frequency), "season": store.season, "max_gap": store.max_gap}
    owner = {file.name: "data.path" for file in inputs_of(resolve(data, base)).files}
    found: dict[str, DataSettings | None] = {}
    for name in ("valid", "test"):
        path = getattr(settings, name)
        held = data.model_copy(update={"path": path, **grid}) if path else None
        found[name] = held and _as_trained(held, store)
        if not path:
            continue
        for file in inputs_of(resolve(data.model_copy(update={"path": path}), base)).files:
            other = owner.setdefault(file.name, f"split.{name}")
            if other != f"split.{name}":
                message = f"{file.name} is both in {other} and in split.{name}"
                raise DataError(message, hint="narrow one of the globs, or move the file")
    return found


def _as_trained(data: DataSettings, store: Store) -> DataSettings:
    """Return settings with the classes of the store that trains."""
    if data.task.kind != "classification":
        return data
    return data.for_task(data.task.model_copy(update={"classes": list(store.columns.classes)}))
