"""Made-up observations in a file, and `forecast stream` reading them in a process that is watched.

Each series begins with one observation; then come the observations that are measured, in turn or
of series drawn at random, each at the next time of its series, so that nothing has to be filled in.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from forecastd.connectors.frames import FrameSplitter
from forecastd.errors import PeerError, UserError
from forecastd.series import Signature, format_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forecastd.artifact import Artifact

READ_BYTES = 1 << 20
FRAME_BYTES_MAX = 1 << 28
BATCH_ROWS = 16_384
START_US = 946_684_800_000_000  # 2000-01-01
_MEMORY_INTERVAL_S = 0.02
_VALUES = 1021
_FIRST_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Traffic:
    """series: S. observations: those measured, after one of each series. order: random or round."""

    series: int
    observations: int
    order: str

    @property
    def total(self) -> int:
        """How many observations there are, the first of each series included."""
        return self.series + self.observations

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the series of each observation, and how many observations of it come before."""
        turns = np.arange(self.total, dtype=np.int64) % self.series
        if self.order == "round":
            return turns, np.arange(self.total, dtype=np.int64) // self.series
        turns[self.series :] = np.random.default_rng(0).integers(0, self.series, self.observations)
        by_series = np.argsort(turns, kind="stable")
        starts = np.cumsum(np.bincount(turns, minlength=self.series)) - 1
        firsts = np.r_[0, starts[:-1] + 1]
        steps = np.empty_like(turns)
        steps[by_series] = np.arange(self.total) - firsts[turns[by_series]]
        return turns, steps


@dataclass(frozen=True)
class Watched:
    """What a process did. per_s: forecasts a second once every series has had its first.

    It is None where too few came to take a rate.
    """

    forecasts: int
    per_s: float | None
    first_forecast_s: float
    peak_rss_mb: float


def write(path: Path, artifact: Artifact, traffic: Traffic, form: str) -> None:
    """Write observations that a model reads, as ndjson or as an arrow stream.

    Raises UserError where a line cannot hold what the model reads.
    """
    signature = artifact.signature
    if signature.frames:
        message = f"the model reads frames, {next(iter(signature.frames))!r}, which are not made up"
        raise UserError(message, hint="measure a model of numeric columns")
    if signature.id is None and traffic.series > 1:
        message = "the model is of a single series"
        raise UserError(message, hint="give --series 1")
    static = {name: _category(artifact, name) for name in signature.static}
    series, steps = traffic.rows()
    if form == "arrow":
        _write_arrow(path, signature, static, (series, steps))
    else:
        _write_lines(path, signature, static, (series, steps))


def _category(artifact: Artifact, name: str) -> str:
    known = artifact.vocabulary.static.get(name, ())
    return known[0] if known else _FIRST_UNKNOWN


def _times(signature: Signature, steps: int) -> NDArray[np.int64]:
    """Return the time of each step: [steps]."""
    first = 0 if signature.frequency.kind == "count" else START_US
    return signature.frequency.advance(np.full(steps, first), np.arange(steps))


def _values(signature: Signature) -> NDArray[np.float64]:
    shape = (_VALUES, len(signature.channels))
    return np.random.default_rng(0).normal(20, 10, shape).round(3)


def _chunks(
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the number of the first row with series and steps, BATCH_ROWS at a time."""
    for start in range(0, len(rows[0]), BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        yield start, rows[0][part], rows[1][part]


def _write_lines(
    path: Path,
    signature: Signature,
    static: dict[str, str],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    from msgspec import json

    zone, frequency = signature.time_zone, signature.frequency
    stamps = [
        json.encode({signature.time: format_time(each, frequency, zone=zone)}).decode()[1:-1]
        for each in _times(signature, int(rows[1].max()) + 1).tolist()
    ]
    ends = [
        json.encode(dict(zip(signature.channels, row, strict=True)) | static).decode()[1:]
        for row in _values(signature).tolist()
    ]
    head = "{" if signature.id is None else f'{{{json.encode(signature.id).decode()}:"series-'
    with path.open("w", encoding="utf-8") as file:
        for start, series, steps in _chunks(rows):
            names = [""] * len(series)
            if signature.id is not None:
                names = [f'{number}",' for number in series.tolist()]
            lines = [
                f"{head}{name}{stamps[step]},{ends[place % _VALUES]}\n"
                for place, (name, step) in enumerate(zip(names, steps.tolist(), strict=True), start)
            ]
            file.write("".join(lines))


def _write_arrow(
    path: Path,
    signature: Signature,
    static: dict[str, str],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    import pyarrow as pa

    times, values = _times(signature, int(rows[1].max()) + 1), _values(signature)
    counted = signature.frequency.kind == "count"
    kind = pa.int64() if counted else pa.timestamp("us", "UTC" if signature.time_zone else None)

    def records(start: int, series: NDArray[np.int64], steps: NDArray[np.int64]) -> Any:
        columns: dict[str, Any] = {}
        if signature.id is not None:
            columns[signature.id] = pa.array([f"series-{number}" for number in series.tolist()])
        columns[signature.time] = pa.array(times[steps]).cast(kind)
        places = np.arange(start, start + len(series)) % _VALUES
        for number, name in enumerate(signature.channels):
            columns[name] = pa.array(values[places, number])
        columns |= {name: pa.array([text] * len(series)) for name, text in static.items()}
        return pa.record_batch(columns)

    schema = records(0, *(column[:1] for column in rows)).schema
    with path.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for chunk in _chunks(rows):
            writer.write_batch(records(*chunk))


def watch(arguments: list[str], source: Path, form: str, series: int, threads: int) -> Watched:
    """Run `forecast stream` on `threads` cores, reading a file, and throw its forecasts away here.

    series: so many forecasts come before the time is taken. This process uses other cores where
    there are any. Raises UserError when there are too few cores, PeerError when the process fails.
    """
    command = [sys.executable, "-m", "forecast_cli", "stream", *arguments, "--format", form]
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        message = f"{threads} threads need more than the {len(allowed)} cores there are"
        raise UserError(message, hint=f"give --threads {len(allowed)} or fewer")
    own, others = set(allowed[-threads:]), set(allowed[:-threads]) or set(allowed)
    with source.open("rb") as file, tempfile.TemporaryFile() as notes:
        started = time.perf_counter()
        os.sched_setaffinity(0, own)  # the process inherits it
        try:
            process = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=notes)
            os.sched_setaffinity(0, others)
            with process:
                watched = _Watch(process, form, series, started)
                watched.run()
        finally:
            os.sched_setaffinity(0, set(allowed))
        notes.seek(0)
        text = notes.read().decode(errors="replace").strip()
        if process.returncode != 0:
            message = f"`forecast stream` ended with {process.returncode}: {text}"
            raise PeerError(message)
    return watched.result(text)


class _Watch:
    """Reads and discards what a process writes, and keeps when and how much of it came."""

    def __init__(self, process: subprocess.Popen[bytes], form: str, lead: int, started: float):
        self._process, self._lead, self._started = process, lead, started
        self._frames = FrameSplitter(FRAME_BYTES_MAX) if form == "arrow" else None
        self._count = 0
        self._first_s: float | None = None
        self._begin: tuple[float, int] | None = None
        self._last_s = started
        self._peak_kb, self._looked_s = 0, 0.0

    def run(self) -> None:
        """Read to the end."""
        assert self._process.stdout is not None
        output: IO[bytes] = self._process.stdout
        while data := os.read(output.fileno(), READ_BYTES):
            now = time.perf_counter()
            self._count += self._counted(data)
            self._last_s = now
            if self._first_s is None and self._count:
                self._first_s = now
            if self._begin is None and self._count >= self._lead:
                self._begin = now, self._count
            if now - self._looked_s >= _MEMORY_INTERVAL_S:
                self._looked_s = now
                self._peak_kb = max(self._peak_kb, _peak_kb(self._process.pid))

    def result(self, notes: str) -> Watched:
        """Return what was seen. Raises PeerError unless enough came to take a rate."""
        if self._begin is None or self._first_s is None:
            message = f"`forecast stream` wrote {self._count} forecasts, too few: {notes}"
            raise PeerError(message)
        begun_s, before = self._begin
        elapsed = self._last_s - begun_s
        return Watched(
            forecasts=self._count,
            per_s=(self._count - before) / elapsed if elapsed > 0 else None,
            first_forecast_s=self._first_s - self._started,
            peak_rss_mb=self._peak_kb / 1024,
        )

    def _counted(self, data: bytes) -> int:
        """Return how many forecasts these bytes complete."""
        if self._frames is None:
            return data.count(b"\n")
        self._frames.feed(data)
        return self._frames.take(1 << 62).count


def _peak_kb(pid: int) -> int:
    """Return the most memory a process has had so far, 0 where it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+)", status, re.M)
    return int(found[1]) if found else 0
