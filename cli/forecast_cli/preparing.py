"""Stores made by the commands: in how much memory, and with a bar for each stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need it
    from forecastd.data.preparing import Preparing

MemoryOption = Annotated[
    str | None, typer.Option("--memory", help="Memory for rows, such as 512MB; default: 1 GiB.")
]
UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30,
}  # fmt: skip


@contextlib.contextmanager
def shown(memory: str | None) -> Iterator[Preparing]:
    """Show the stages while the block prepares. memory: as a person writes it. Raises UserError."""
    from forecast_cli.stages import stages
    from forecastd.data.preparing import Preparing

    memory_bytes = None if memory is None else parse_bytes(memory)
    with stages("prepare") as report:
        yield Preparing(memory_bytes, report)


def parse_bytes(text: str) -> int:
    """Return a number of bytes given as 512MB, 2GiB or a plain number. Raises UserError."""
    import re

    from forecastd.errors import UserError

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    scale = UNITS.get(match[2].upper()) if match else None
    if match is None or scale is None:
        message = f"--memory {text!r} is not a size"
        raise UserError(message, hint="write for example 512MB or 2GiB")
    return int(float(match[1]) * scale)
