"""The states that lie in files, for people: what is in them, and how series are forgotten.

A file is that of `forecast predict --state-out`, the checkpoint of a daemon that is stopped, or
that of `forecast stream --state`.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import UserError
from forecastd.runtime import checkpoint
from forecastd.runtime.arena import BOOKKEEPING, ArenaSnapshot
from forecastd.runtime.checkpoint import Checkpoint
from forecastd.runtime.evicted import EvictedIndex
from forecastd.runtime.state_file import SavedStates, is_state_file, load_states, save_states
from forecastd.series import IntArray, Keys

CHECKPOINT, LOCK = "checkpoint", "lock"
"""What a daemon calls these in its state_dir."""


@dataclass(frozen=True)
class Kept:
    """States in a file. evicted: keys whose rows lie in another file. whole: the checkpoint."""

    path: Path
    states: SavedStates
    evicted: Keys
    whole: Checkpoint | None = None


def file_of(path: Path) -> Path:
    """Return the file with the states: `path`, or the checkpoint in a daemon's folder.

    Raises UserError where there is none.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    if not file.is_file():
        message = f"there are no states in {path}"
        raise UserError(message, hint="give a state_dir, or a file of --state or --state-out")
    return file


def lock_of(path: Path) -> Path | None:
    """Return the lock of whatever may be using a file of states; None where nothing does."""
    file = file_of(path)
    if is_state_file(file):
        return None
    in_folder = path.is_dir() or (file.name == CHECKPOINT and (file.parent / LOCK).exists())
    return file.parent / LOCK if in_folder else file.with_name(f".{file.name}.lock")


def open_kept(path: Path) -> Kept:
    """Read states. Raises ArtifactError where they are damaged, older or newer."""
    file = file_of(path)
    if is_state_file(file):
        return Kept(file, load_states(file), Keys.empty())
    found = checkpoint.load_as_written(file)
    if found is None:
        message = f"there are no states in {path}"
        raise UserError(message)
    keys, rows = found.snapshot
    own = {name for name, _ in BOOKKEEPING}
    arrays = {name: rows[name] for name in rows.dtype.names or () if name not in own}
    states = SavedStates(found.digest, keys, rows["last_time"], rows["steps"], arrays)
    evicted = Keys.empty() if found.evicted is None else found.evicted.keys
    return Kept(file, states, evicted, found)


def forget(kept: Kept, series: Collection[str] | None = None) -> int:
    """Leave series (all if None) out of the file, durably, and return how many there were.

    The positions of sources and sinks stay: what was read is not read again. Raises UserError where
    a series is not there.
    """
    present = [*kept.states.keys.tolist(), *kept.evicted.tolist()]
    unknown = sorted(set(series or ()) - set(present))
    if unknown:
        message = f"there is no state of a series {unknown[0]!r}"
        raise UserError(message, hint=f"the first of {len(present)} are {', '.join(present[:5])}")
    gone = set(present if series is None else series)
    stay = _without(kept.states.keys, gone)
    if kept.whole is None:
        save_states(kept.path, kept.states.take(stay))
        return len(gone)
    keys, rows = kept.whole.snapshot
    evicted = kept.whole.evicted
    if evicted is not None:
        rest = _without(evicted.keys, gone)
        found = evicted.keys.take(rest), evicted.places[rest]
        evicted = EvictedIndex(evicted.number, evicted.end, *found)
    left = replace(
        kept.whole,
        snapshot=ArenaSnapshot(keys.take(stay), rows[stay]),
        positions=_waiting(kept.whole.positions, stay, len(keys)),
        evicted=evicted,
    )
    checkpoint.save(kept.path, left)
    return len(gone)


def _without(keys: Keys, gone: Collection[str]) -> IntArray:
    return np.array([n for n, key in enumerate(keys) if key not in gone], np.int64)


def _waiting(positions: dict[str, Any], stay: IntArray, count: int) -> dict[str, Any]:
    """Return the positions with the marks of forecasts that wait, one for each row that stays."""
    emit = positions.get("emit") or {}
    if "changed" not in emit:
        return positions
    raw = np.frombuffer(base64.b64decode(emit["changed"]), np.uint8)
    marks: NDArray[np.uint8] = np.zeros(max(count, 8 * len(raw)), np.uint8)
    marks[: 8 * len(raw)] = np.unpackbits(raw)
    left = np.trim_zeros(marks[stay], "b")
    text = base64.b64encode(np.packbits(left).tobytes()).decode()
    return positions | {"emit": {"changed": text} if len(left) else {}}
