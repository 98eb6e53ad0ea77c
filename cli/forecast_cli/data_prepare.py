"""`forecast data prepare` and `forecast data fetch`: data sets made ready for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forecast_cli.preparing import MemoryOption

if TYPE_CHECKING:  # help does not need it
    from forecastd.data.catalogue import Card


def prepare(
    source: Annotated[
        str, typer.Argument(metavar="DATA|CONFIG", help="A data set, or a .toml config.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder of the store.")],
    memory: MemoryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the sorted store that training reads; one that is still current is kept."""
    from dataclasses import asdict

    from forecast_cli.data_describe import settings_of
    from forecast_cli.output import note, print_json
    from forecast_cli.preparing import shown
    from forecastd.data.store import prepare as prepare_store

    data, base = settings_of(source)
    with shown(memory) as how:
        store = prepare_store(data, base, output, memory_bytes=how.memory_bytes, report=how.report)
    report = asdict(store.report)
    if as_json:
        print_json({"folder": output, "frequency": str(store.frequency), **report})
        return
    note(
        f"{output}: {len(store.times):,} rows of {store.series_count:,} series, "
        f"freq {store.frequency}, season {store.season}"
    )


def fetch(
    name: Annotated[str, typer.Argument(help="A data set that has a card.")],
    mirror: Annotated[
        Path | None, typer.Option("--from", help="Folder that its files are copied from.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder that they are copied to.")
    ] = Path(),
    cards: Annotated[
        Path | None, typer.Option(help="Folder of cards; default: datasets, here or beside us.")
    ] = None,
) -> None:
    """Copy the files of a known data set from a folder and verify them, or say where to get it."""
    from forecast_cli.output import note
    from forecastd.data.catalogue import fetch as fetch_files
    from forecastd.data.catalogue import read_card

    card = read_card(cards if cards is not None else cards_folder(), name)
    fetched = fetch_files(card, mirror, output)
    for line in summary(card):
        note(line)
    note(f"{fetched.copied} of {len(fetched.files)} files copied, all verified")
    for file in fetched.files:
        print(file)


def summary(card: Card) -> list[str]:
    """Return what a person has to know before using a data set."""
    return [
        f"{card.name}: {card.what}",
        f"  source   {card.source}",
        f"  licence  {card.licence}",
        f"  split    {card.split}",
    ]


def cards_folder() -> Path:
    """Return `datasets` in the current folder, or that of the checkout we run from."""
    here = Path("datasets")
    return here if here.is_dir() else Path(__file__).resolve().parents[2] / "datasets"
