"""`forecast replay`: play history as a live stream, in time order across series."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

if TYPE_CHECKING:  # help does not need them
    from forecast_cli.sender import Lines
    from forecastd.config import DataSettings
    from forecastd.data.table import Columns

STEM_CHARACTERS_MAX = 60


def replay(
    source: Annotated[
        str, typer.Argument(metavar="DATA|CONFIG", help="A data set, or a .toml config.")
    ],
    *,
    speed: Annotated[
        str,
        typer.Option(help="Data seconds (or counts) per second, as 3600x; max: as fast as taken."),
    ] = "max",
    to: Annotated[
        str, typer.Option("--to", help="stdout, unix://PATH or tcp://HOST:PORT.")
    ] = "stdout",
    start: Annotated[str | None, typer.Option("--from", help="First stamp to play.")] = None,
    until: Annotated[str | None, typer.Option(help="Play the stamps before this one.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Send only the columns this model reads.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the stream; the same name resumes.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Observations at most.")] = None,
    retry: Annotated[
        float, typer.Option(min=0, help="Seconds without progress before giving up.")
    ] = 30.0,
) -> None:
    """Play history as observations, one JSON object a line.

    To a socket it resumes where the receiver's last commit ended; forecasts that come back go to
    stdout.
    """
    from forecast_cli.history import History
    from forecast_cli.output import note
    from forecast_cli.sender import Sender, parse_address

    address = None if to == "stdout" else parse_address(to)
    data, base = settings_of(source, model)
    lines = History.read(
        data, base, speed=parse_speed(speed), start=start, until=until, limit=limit
    )
    if address is None:
        write_lines(lines, sys.stdout.buffer)
        return
    stem = re.sub(r"[^\w.-]", "_", Path(data.path).stem)[:STEM_CHARACTERS_MAX]
    stream = name or f"replay-{stem}-{lines.digest}"
    sent = Sender(address, stream, _print_line, retry_s=retry).send(lines)
    known = f", {sent.already:,} of them before" if sent.already else ""
    again = f", over {sent.connections} connections" if sent.connections > 1 else ""
    note(f"{to} has committed all {sent.lines:,} observations of stream {stream}{known}{again}")


def settings_of(source: str, model: Path | None) -> tuple[DataSettings, Path]:
    """Return what to read and where its path starts: a config, or bare data.

    model: its signature names the columns instead.
    """
    from forecastd.config import TrainConfig, load
    from forecastd.data.roles import infer_roles, settings_for_model
    from forecastd.data.table import resolve
    from forecastd.series import Frequency

    if source.endswith(".toml"):
        loaded = load(TrainConfig, Path(source))
        data, base = loaded.settings.data, loaded.folder
        if model is None:
            return data, base
        source = resolve(data, base)
    elif model is None:
        return infer_roles(source).settings, Path()
    columns, frequency = _signature(model)
    return settings_for_model(source, columns, Frequency.parse(frequency)), Path()


def parse_speed(text: str) -> float | None:
    """Read "3600x" or "max" (None). Raises UserError."""
    from forecastd.errors import UserError

    if text == "max":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if match is None or float(match[1]) == 0:
        message = f"--speed {text!r} is no speed"
        raise UserError(message, hint="write for example 3600x, or max")
    return float(match[1])


def write_lines(
    lines: Lines, output: BinaryIO, wait: Callable[[float], object] | None = None
) -> None:
    """Write all lines, each piece when it is due."""
    import threading
    import time

    started = time.monotonic()
    wait = wait or threading.Event().wait
    for piece in lines.pieces_from(0):
        rest_s = started + piece.due_s - time.monotonic()
        if rest_s > 0:
            wait(rest_s)
        output.write(piece.data)
        output.flush()


def _print_line(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _signature(model: Path) -> tuple[Columns, str]:
    """Read the columns and the frequency from a model's model.json."""
    import json

    from forecastd.data.table import Columns
    from forecastd.errors import ArtifactError

    path = next(
        (p for p in (model / "model.json", model / "model" / "model.json") if p.is_file()), None
    )
    if path is None:
        message = f"{model} is not a model: it has no model.json"
        raise ArtifactError(message, hint="name the folder that forecast train wrote")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["signature"]
        columns = Columns(
            found["id"],
            found["time"],
            found["target"],
            tuple(found["past"]),
            tuple(found["static"]),
            bool(found.get("time_zone", False)),
            task=found.get("task", "forecast"),
            classes=tuple(found.get("classes", ())),
            more_targets=tuple(found.get("more_targets", ())),
        )
        return columns, str(found["frequency"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} is damaged: its signature cannot be read"
        raise ArtifactError(message, hint="train again, or restore a copy") from error
