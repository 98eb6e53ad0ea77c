"""Durable writes and digests: the only module that renames or replaces files.

A reader of these files sees the whole old content or the whole new content, also after a
power loss: temporary file, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from forecastd.errors import UserError

CHUNK_BYTES = 1 << 20


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content` so that no crash leaves half of it.

    Raises UserError when the folder cannot be written.
    """
    write_pieces_durably(path, [content])


def write_pieces_durably(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Replace `path` by pieces that follow one another, as `write_durably` does."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        publish_file(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        message = f"cannot write {path}: {error.strerror or error}"
        raise UserError(message, hint="check that the folder exists and is writable") from error


def publish_file(written: Path, target: Path) -> None:
    """Make a finished file durable and give it its name, replacing an older `target`."""
    with written.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(written, target)  # noqa: TID251  this is the one place
    sync_folder(target.parent)


@contextlib.contextmanager
def publish_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends without an error.

    An existing `target` is replaced. Raises UserError when the place cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        message = f"cannot write {target}: {error.strerror or error}"
        raise UserError(message, hint="choose another output folder") from error
    try:
        yield staging
        staging.chmod(0o755)
        _sync_tree(staging)
        if target.exists():
            shutil.rmtree(target)
        os.replace(staging, target)  # noqa: TID251  this is the one place
        sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def point_link(link: Path, target_name: str) -> None:
    """Make `link` a symbolic link to `target_name`, replacing an older link at once."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target_name)
    os.replace(temporary, link)  # noqa: TID251  this is the one place


def rotate(path: Path) -> None:
    """Move a file to NAME.1, replacing an older one, so that a new one can begin."""
    os.replace(path, path.with_name(f"{path.name}.1"))  # noqa: TID251  this is the one place


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in bounded memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
