"""Cards of known data sets: where each comes from, under what licence, and how to be sure of it.

A card is a `dataset.toml`; it holds facts, no data. `fetch` copies the files from a folder where
they are (a mirror) and believes nothing but the checksum.
"""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from forecastd.config import Settings
from forecastd.errors import DataError
from forecastd.files import publish_file, sha256

CARD = "dataset.toml"


class CardFile(Settings):
    """One file of a data set."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int = Field(ge=1)
    series: int = Field(ge=1)


class Card(Settings):
    """What is known about a data set. split: in words, as its users agree on it."""

    version: int = 1
    name: str
    what: str
    source: str
    licence: str
    frequency: str
    split: str
    columns: str
    files: list[CardFile] = Field(min_length=1)


@dataclass(frozen=True)
class Fetched:
    """The files of a data set in a folder. copied: those that were not there already."""

    folder: Path
    files: list[Path]
    copied: int


def names_in(cards: Path) -> list[str]:
    """Return the names of the data sets that have a card below a folder."""
    return sorted(path.parent.name for path in cards.glob(f"*/{CARD}"))


def read_card(cards: Path, name: str) -> Card:
    """Return the card of a data set. Raises DataError where there is none, or it is damaged."""
    path = cards / name / CARD
    if name not in names_in(cards):
        message = f"there is no card of a data set {name!r} in {cards}"
        known = ", ".join(names_in(cards)) or "none; name the folder of cards with --cards"
        raise DataError(message, hint=f"known: {known}")
    try:
        return Card.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:160]
        message = f"the card {path} is damaged: {reason}"
        raise DataError(message, hint="compare it with the other cards") from error


def fetch(card: Card, mirror: Path | None, folder: Path) -> Fetched:
    """Make sure that the files of a card lie in `folder`, with the checksums it says.

    mirror: the folder they are copied from. Raises DataError where a file is in neither, with
    where to get it, or differs from what the card says; nothing wrong is left in `folder`.
    """
    copied, files = 0, []
    for file in card.files:
        target = folder / file.name
        files.append(target)
        if target.is_file() and sha256(target) == file.sha256:
            continue
        origin = None if mirror is None else mirror / file.name
        if origin is None or not origin.is_file():
            where = f"not in {mirror}" if mirror else "no folder was named to copy it from"
            message = f"{file.name} of {card.name} is missing: {where}"
            hint = f"its source is {card.source}; licence: {card.licence}"
            raise DataError(message, hint=hint)
        _copy(origin, target, file.sha256)
        copied += 1
    return Fetched(folder, files, copied)


def _copy(origin: Path, target: Path, expected: str) -> None:
    """Copy a file and give it its name only when the checksum is right."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            shutil.copyfile(origin, part)
            found = sha256(part)
            if found == expected:
                publish_file(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        message = f"cannot copy {origin} to {target}: {error.strerror or error}"
        raise DataError(message, hint="choose another folder with -o") from error
    if found != expected:
        message = f"{origin} has the sha256 {found[:12]}…, but the card says {expected[:12]}…"
        raise DataError(message, hint="it is another version of the data, or damaged")
