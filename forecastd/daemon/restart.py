"""What a start takes over from the last life: states and positions, in a folder of its own."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

from forecastd.errors import ArtifactError, UserError
from forecastd.runtime import checkpoint
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


def restore(stepper: Stepper, path: Path) -> dict[str, Any]:
    """Put the states of a checkpoint into a stepper; return the positions, {} if there are none.

    Raises ArtifactError when the checkpoint is damaged, newer, of another model, or too large.
    """
    found = checkpoint.load(path, stepper.arena.layout)
    if found is None:
        return {}
    if found.digest != stepper.digest:
        message = f"the checkpoint {path} was made by another model"
        raise ArtifactError(message, hint="use that model, or move the file away to start fresh")
    series = len(found.snapshot.keys)
    if series > stepper.arena.series_max:
        message = f"the checkpoint {path} has {series} series, more than series_max"
        raise ArtifactError(message, hint=f"set series_max to {series} or more")
    stepper.arena.restore(found.snapshot)
    return found.positions
