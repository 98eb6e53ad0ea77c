"""What a start takes over from the last life: states and positions, in a folder of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forecastd.errors import ArtifactError, UserError
from forecastd.runtime import checkpoint
from forecastd.runtime.arena import Arena
from forecastd.runtime.evicted import Evicted, Rows
from forecastd.runtime.stepper import Stepper


class FolderLock:
    """Keeps a second process out of a folder, or of a file's surroundings, until `close`.

    The kernel drops the lock with the process, so a crash leaves nothing to clean up.
    """

    def __init__(self, path: Path, owner: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"{owner} {path.parent} cannot be written: {error.strerror}"
            raise UserError(message, hint="choose a writable folder") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            message = f"{owner} {path.parent} is used by another process"
            raise UserError(message, hint="stop it, or choose another folder") from error

    def close(self) -> None:
        """Let others in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def restore(stepper: Stepper, path: Path, *, evict: bool = False) -> dict[str, Any]:
    """Put the states of a checkpoint into a stepper; return the positions, {} if there are none.

    evict: the arena evicts into the folder of `path` when it is full. Raises ArtifactError when
    the checkpoint is damaged, older, newer, of another model, or too large.
    """
    arena = stepper.arena
    found = checkpoint.load(path, arena.layout)
    if found is None:
        if evict:
            arena.evicted = Evicted(path.parent, arena.layout.itemsize)
        return {}
    if found.digest != stepper.digest:
        message = f"the checkpoint {path} was made by another model"
        raise ArtifactError(message, hint="use that model, or move the file away to start fresh")
    series = len(found.snapshot.keys)
    if series > arena.series_max:
        message = f"the checkpoint {path} has {series} series, more than series_max"
        raise ArtifactError(message, hint=f"set series_max to {series} or more")
    if not evict and found.evicted is not None and len(found.evicted.keys):
        raise _needs_eviction(len(found.evicted.keys))
    if evict:
        arena.evicted = Evicted(path.parent, arena.layout.itemsize, found.evicted)
    arena.restore(found.snapshot)
    return found.positions


def carry_evicted(
    old: Arena, new: Arena, folder: Path, change: Callable[[Rows], Rows] | None, *, evict: bool
) -> None:
    """Bring evicted series into the arena of another model.

    change: what becomes of their rows; None: they begin anew. Raises ArtifactError when there are
    any and the new arena is not to evict.
    """
    count = 0 if old.evicted is None or change is None else len(old.evicted)
    if not evict:
        if count:
            raise _needs_eviction(count)
        return
    new.evicted = Evicted(folder, new.layout.itemsize)
    if old.evicted is not None and change is not None:
        for keys, rows in old.evicted.chunks():
            new.evicted.put(keys, change(rows))


def _needs_eviction(count: int) -> ArtifactError:
    message = f"{count} series are evicted, which refusing new ones would forget"
    return ArtifactError(message, hint='set when_full to "evict"')
