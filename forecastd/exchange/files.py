"""Arrays by name in a file: .npz, .safetensors or .json by its ending. Nothing is unpickled."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from forecastd.errors import UserError
from forecastd.exchange.parts import Array, Arrays
from forecastd.files import write_durably

ENDINGS = (".npz", ".safetensors", ".json")
BYTES_MAX = 2 << 30
"""No larger file is read."""


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays durably. Raises UserError for another ending, or where it cannot be written."""
    ending = _ending(path)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if ending == ".json":
        lists = {name: array.astype(np.float64).tolist() for name, array in whole.items()}
        content = json.dumps(lists, allow_nan=False).encode()
    elif ending == ".npz":
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **whole)
        content = packed.getvalue()
    else:
        content = save_arrays(dict(whole))
    write_durably(path, content)


def read_arrays(path: Path) -> Arrays:
    """Read what another system, or `write_arrays`, wrote; all of it finite numbers.

    Raises UserError when the file is missing, damaged, too large or holds anything else.
    """
    ending = _ending(path)
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= BYTES_MAX else b""
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise UserError(message) from error
    if size > BYTES_MAX:
        raise _unusable(path, f"it is larger than {BYTES_MAX} bytes")
    try:
        arrays = _parse(content, ending)
    except (ValueError, KeyError, OSError, SafetensorError, zipfile.BadZipFile) as error:
        raise _unusable(path, str(error).partition("\n")[0]) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise _unusable(path, f"{name!r} is not made of finite numbers")
    return arrays


def _parse(content: bytes, ending: str) -> Arrays:
    if ending == ".npz":
        with np.load(io.BytesIO(content), allow_pickle=False) as packed:
            return {name: packed[name] for name in packed.files}
    if ending == ".safetensors":
        return dict(load_arrays(content))
    lists = json.loads(content)
    if not isinstance(lists, dict):
        message = "it is no object of arrays by name"
        raise ValueError(message)
    return {name: np.array(values, np.float64) for name, values in lists.items()}


def _ending(path: Path) -> str:
    if path.suffix not in ENDINGS:
        message = f"{path} has an ending that says no format"
        raise UserError(message, hint=f"end its name with {', '.join(ENDINGS)}")
    return path.suffix


def _unusable(path: Path, reason: str) -> UserError:
    message = f"{path} holds no weights that can be used: {reason}"
    return UserError(message, hint="write it again with the other system")
