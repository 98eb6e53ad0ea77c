"""The files that a path stands for: a file, a folder, a glob, on disk or on any file system.

Folders named `key=value` below the given path are columns of their own (hive partitions).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from forecastd.errors import DataError

FORMATS = (".parquet", ".csv", ".ndjson", ".jsonl", ".arrow", ".feather", ".ipc")
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_URI = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)


@dataclass(frozen=True)
class InputFile:
    """One file. name: as people know it. path: within its file system. size: in bytes.

    changed_ns: when it was written. parts: the values of its partition columns, as text.
    """

    name: str
    path: str
    size: int
    changed_ns: int
    parts: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """The files of a data set, sorted by name; never empty, all of one format."""

    text: str
    filesystem: fs.FileSystem
    files: tuple[InputFile, ...]
    suffix: str

    @property
    def local(self) -> bool:
        """Whether the files lie on the disks of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)


def is_uri(path_text: str) -> bool:
    """Tell whether a path names its file system, as in s3://bucket/folder."""
    return _URI.match(path_text) is not None


def inputs_of(path_text: str, filesystem: fs.FileSystem | None = None) -> Inputs:
    """Return the files behind a path, folder, glob or URI; their order is that of their names.

    filesystem: where the path lies; none: what the URI says, or this machine. Raises DataError
    when there is nothing, when formats are mixed or unknown, or a file is empty.
    """
    filesystem, path = (filesystem, path_text) if filesystem else _place(path_text)
    try:
        root, found = _found(filesystem, path, path_text)
    except (OSError, pa.ArrowException) as error:
        message = f"cannot list {path_text}: {' '.join(str(error).split())[:160]}"
        raise DataError(message, hint="check the path and the rights to read it") from error
    suffix = _one_format(path_text, [info.path for info in found])
    files = []
    for info in sorted(found, key=lambda one: str(one.path)):
        name = _uri_of(path_text, path, info.path)
        if info.size == 0:
            message = f"the file {name} is empty"
            raise DataError(message, hint="write the data again, or name another file")
        parts = _partitions(root, info.path)
        files.append(InputFile(name, info.path, int(info.size or 0), info.mtime_ns or 0, parts))
    return Inputs(path_text, filesystem, tuple(files), suffix)


def _place(path_text: str) -> tuple[fs.FileSystem, str]:
    """Return the file system that a path names and the path within it."""
    if not is_uri(path_text):
        return fs.LocalFileSystem(), str(Path(path_text).expanduser())
    scheme, rest = path_text.split("://", 1)
    if scheme == "file":
        return fs.LocalFileSystem(), "/" + unquote(rest).lstrip("/")
    prefix, _, glob = _cut_at_glob(rest)
    try:
        filesystem, path = fs.FileSystem.from_uri(f"{scheme}://{prefix}")
    except (OSError, ValueError, pa.ArrowException) as error:
        message = f"cannot open {path_text}: {' '.join(str(error).split())[:160]}"
        raise DataError(
            message, hint="known are for example s3://, gs://, hdfs://, file://"
        ) from error
    return filesystem, f"{path.rstrip('/')}/{glob}" if glob else path


def _cut_at_glob(path: str) -> tuple[str, str, str]:
    """Cut a path before its first segment with a wildcard."""
    segments = path.split("/")
    first = next((n for n, one in enumerate(segments) if _is_glob(one)), len(segments))
    return "/".join(segments[:first]), "/", "/".join(segments[first:])


def _is_glob(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _found(filesystem: fs.FileSystem, path: str, text: str) -> tuple[str, list[fs.FileInfo]]:
    """Return the folder below which partitions may lie, and the files."""
    info = filesystem.get_file_info(path.rstrip("/") or "/")
    if info.type == fs.FileType.File:
        return str(PurePosixPath(info.path).parent), [info]
    if info.type == fs.FileType.Directory:
        listed = filesystem.get_file_info(fs.FileSelector(path.rstrip("/") or "/", recursive=True))
        files = [one for one in listed if _is_data(one, info.path)]
        if not files:
            message = f"the folder {text} has no file of a known format"
            raise DataError(message, hint=f"known: {', '.join(FORMATS)}")
        return info.path, files
    if _is_glob(path):
        root, _, pattern = _cut_at_glob(path)
        matches = _matching(filesystem, root or ".", pattern.split("/"))
        files = list({one.path: one for one in matches}.values())
        if files:
            return root, files
    message = f"there is no file {text}"
    raise DataError(message, hint="check the path; in a config it starts at the config's folder")


def _matching(filesystem: fs.FileSystem, folder: str, segments: list[str]) -> Iterator[fs.FileInfo]:
    """Yield the files below a folder that fit a glob, one segment a level; ** is any depth."""
    first, rest = segments[0], segments[1:]
    if first == "**" and rest:
        yield from _matching(filesystem, folder, rest)
    selector = fs.FileSelector(folder, allow_not_found=True)
    for info in filesystem.get_file_info(selector):
        if info.base_name.startswith(".") or not (
            first == "**" or fnmatch.fnmatchcase(info.base_name, first)
        ):
            continue
        if info.type == fs.FileType.File and not rest:
            yield info
        elif info.type == fs.FileType.Directory and (rest or first == "**"):
            deeper = segments if first == "**" else rest
            yield from _matching(filesystem, info.path, deeper)


def _is_data(info: fs.FileInfo, root: str) -> bool:
    """Tell data from what other tools leave in a folder, such as _SUCCESS."""
    inner = info.path[len(root) :].split("/")
    hidden = any(part.startswith((".", "_")) and "=" not in part for part in inner)
    return info.type == fs.FileType.File and not hidden and _suffix(info.path) in FORMATS


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _one_format(path_text: str, paths: list[str]) -> str:
    suffixes = sorted({_suffix(path) for path in paths})
    if len(suffixes) > 1:
        message = f"{path_text} names files of several formats: {', '.join(suffixes)}"
        raise DataError(message, hint="narrow the path to one format with a glob")
    if suffixes[0] not in FORMATS:
        message = f"{path_text} ends in {suffixes[0] or 'no suffix'}, which is no known format"
        raise DataError(message, hint=f"known: {', '.join(FORMATS)}")
    return suffixes[0]


def _uri_of(path_text: str, path: str, found: str) -> str:
    """Return the name of a file as the person wrote the path to it."""
    if not is_uri(path_text):
        return found
    return f"{path_text.split('://')[0]}://{found.lstrip('/')}"


def _partitions(root: str, path: str) -> dict[str, str | None]:
    inner = path.removeprefix(root.rstrip("/")).lstrip("/").split("/")[:-1]
    pairs = [part.split("=", 1) for part in inner if "=" in part]
    return {
        unquote(key): None if value == NULL_PARTITION else unquote(value) for key, value in pairs
    }
