"""The place where a store is made before it is published, and what is left of interrupted ones."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from forecastd.errors import UserError
from forecastd.files import publish_folder


@contextlib.contextmanager
def staging_for(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes `target` when the block ends without an error.

    What processes that died left of the same target is removed first; that of others still at
    work, held by a lock that ends with its process, is not. Raises UserError when the disk is
    full or the place cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The lock of the new folder goes last: until then it must not look like a rest.
        with contextlib.ExitStack() as locks, contextlib.ExitStack() as stack:
            # Between another's making of its folder and its locking it nobody may look for rests.
            with _locked(target.parent, wait=True):
                _remove_rests(target)
                folder = stack.enter_context(publish_folder(target))
                locks.enter_context(_locked(folder, wait=False))
            yield folder
    except OSError as error:
        message = f"cannot write {target}: {error.strerror or error}"
        raise UserError(message, hint="choose another folder, or make room on the disk") from error


def _remove_rests(target: Path) -> None:
    for rest in target.parent.glob(f".{target.name}.????????"):
        with contextlib.suppress(OSError), _locked(rest, wait=False):
            shutil.rmtree(rest)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder. Raises BlockingIOError when another holds it and not `wait`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
