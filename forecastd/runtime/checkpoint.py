"""A checkpoint: all live states with the positions of sources and sinks, as one durable file.

The file exists whole or not at all. docs/formats/checkpoint.md describes its bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forecastd.errors import ArtifactError
from forecastd.files import write_durably
from forecastd.runtime.arena import ArenaSnapshot

MAGIC = b"FCSTATE1"
HEADER_BYTES_MAX = 1 << 28
_PREFIX = struct.Struct("<8sQ")
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Checkpoint:
    """States and positions that belong together.

    digest: of the stepper that made the states. positions: JSON value per source and sink name.
    """

    digest: str
    snapshot: ArenaSnapshot
    positions: dict[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> int:
    """Write a checkpoint durably and return its size in bytes."""
    rows = checkpoint.snapshot.rows
    header = json.dumps(
        {
            "digest": checkpoint.digest,
            "layout": layout_text(rows.dtype),
            "positions": checkpoint.positions,
            "keys": checkpoint.snapshot.keys,
        }
    ).encode()
    body = _PREFIX.pack(MAGIC, len(header)) + header + rows.tobytes()
    content = body + hashlib.sha256(body).digest()
    write_durably(path, content)
    return len(content)


def load(path: Path, layout: np.dtype[np.void]) -> Checkpoint | None:
    """Read a checkpoint whose rows have `layout`; None if there is none.

    Raises ArtifactError when the file is damaged, newer, or of another layout.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"cannot read the checkpoint {path}: {error.strerror}"
        raise ArtifactError(message) from error
    header, rows_bytes = _open(path, content)
    if header["layout"] != layout_text(layout):
        message = f"the checkpoint {path} was made by a model of another shape"
        raise ArtifactError(message, hint="use the old model, or move the file away to start fresh")
    keys = header["keys"]
    if len(rows_bytes) != len(keys) * layout.itemsize:
        raise _damaged(path)
    rows = np.frombuffer(rows_bytes, layout).copy()
    return Checkpoint(header["digest"], ArenaSnapshot(keys, rows), header["positions"])


def layout_text(layout: np.dtype[np.void]) -> str:
    """Return a row layout as text that is equal only for equal layouts."""
    return json.dumps([list(map(str, entry)) for entry in layout.descr])


def _open(path: Path, content: bytes) -> tuple[dict[str, Any], bytes]:
    if len(content) < _PREFIX.size + _DIGEST_BYTES:
        raise _damaged(path)
    magic, header_bytes = _PREFIX.unpack_from(content)
    if magic[:-1] != MAGIC[:-1]:
        raise _damaged(path)
    if magic != MAGIC:
        message = f"the checkpoint {path} has a format newer than this forecastd knows"
        raise ArtifactError(message, hint="update forecastd, or move the file away to start fresh")
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest or header_bytes > HEADER_BYTES_MAX:
        raise _damaged(path)
    end = _PREFIX.size + header_bytes
    return json.loads(body[_PREFIX.size : end]), body[end:]


def _damaged(path: Path) -> ArtifactError:
    message = f"the checkpoint {path} is damaged"
    return ArtifactError(message, hint="restore a copy, or move it away to start fresh")
