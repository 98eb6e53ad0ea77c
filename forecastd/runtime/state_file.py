"""The states of series in a file, for scoring that goes on where it ended: arrays and no code.

docs/formats/states.md describes it. A daemon's states are in its checkpoint instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from forecastd.errors import ArtifactError
from forecastd.files import write_durably
from forecastd.network.kinds.contract import Shapes
from forecastd.series import IntArray, Keys

FORMAT = "1"
_OWN = ("keys", "key_offsets", "last_time", "steps")
_STATE = "state."


@dataclass(frozen=True)
class SavedStates:
    """States of S series that one model made.

    digest: of that model. last_time, steps [S]: the newest time of each series, and how many steps
    it has gone. arrays: what the series remember by name, [S, ...].
    """

    digest: str
    keys: Keys
    last_time: IntArray
    steps: IntArray
    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.keys)

    def places(self, keys: Sequence[str]) -> IntArray:
        """Return where each of some series is, -1 where there is none: [n]."""
        known = {key: place for place, key in enumerate(self.keys)}
        return np.array([known.get(key, -1) for key in keys], np.int64)

    def take(self, places: IntArray) -> SavedStates:
        """Return some of the series."""
        arrays = {name: array[places] for name, array in self.arrays.items()}
        times, steps = self.last_time[places], self.steps[places]
        return SavedStates(self.digest, self.keys.take(places), times, steps, arrays)


def save_states(path: Path, states: SavedStates) -> None:
    """Write states durably. Raises UserError where the file cannot be written."""
    keys = states.keys.take(np.arange(len(states)))
    arrays = {_STATE + name: np.ascontiguousarray(a) for name, a in states.arrays.items()}
    arrays |= {
        "keys": keys.data,
        "key_offsets": keys.offsets,
        "last_time": states.last_time,
        "steps": states.steps,
    }
    about = {"format": FORMAT, "digest": states.digest}
    write_durably(path, save_arrays(arrays, metadata=about))


def is_state_file(path: Path) -> bool:
    """Tell whether a file is one of these, by its name."""
    return path.suffix == ".safetensors"


def load_states(path: Path) -> SavedStates:
    """Read states. Raises ArtifactError where the file is missing, damaged or newer."""
    if not path.is_file():
        message = f"there are no states in {path}: it is no file"
        raise ArtifactError(message, hint="write one with forecast predict --state-out")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if about.get("format") != FORMAT:
        message = f"{path} has the states' format {about.get('format')!r}, and {FORMAT!r} is known"
        raise ArtifactError(message, hint="update forecastd, or make the states again")
    return _checked(path, about.get("digest", ""), arrays)


def states_for(path: Path, digest: str, shapes: Shapes) -> SavedStates:
    """Read states for a model. shapes: of what a series of it remembers, by name.

    Raises ArtifactError also where another model made them: its states mean something else.
    """
    states = load_states(path)
    if states.digest != digest:
        message = f"the states in {path} were made by another model"
        raise ArtifactError(message, hint="use that model, or leave --state-in out to start fresh")
    if {name: array.shape[1:] for name, array in states.arrays.items()} != dict(shapes):
        raise _damaged(path, "its arrays are not those of the model")
    return states


def _checked(path: Path, digest: str, arrays: dict[str, NDArray[Any]]) -> SavedStates:
    try:
        data, offsets, times, steps = (arrays.pop(name) for name in _OWN)
    except KeyError as error:
        raise _damaged(path, f"it has no {error}") from error
    count = len(times)
    kinds = [data.dtype == np.uint8, *(a.dtype == np.int64 for a in (offsets, times, steps))]
    flat = all(array.ndim == 1 for array in (data, offsets, times, steps))
    if not (all(kinds) and flat and len(steps) == count and len(offsets) == count + 1):
        raise _damaged(path, "its series are not one for each row")
    if offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
        raise _damaged(path, "the keys of its series are cut wrongly")
    if not all(
        name.startswith(_STATE) and array.shape[:1] == (count,) and np.isfinite(array).all()
        for name, array in arrays.items()
    ):
        raise _damaged(path, "its arrays do not have a finite row for each series")
    named = {name.removeprefix(_STATE): array for name, array in arrays.items()}
    return SavedStates(digest, Keys(data, offsets), times, steps, named)


def _damaged(path: Path, reason: str) -> ArtifactError:
    message = f"the states in {path} are damaged: {reason}"
    return ArtifactError(message, hint="restore a copy, or make them again")
