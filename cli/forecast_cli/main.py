"""The `forecast` command: one table of commands, each in a file of its own.

Command files import only typer at their top; what they need to work they import when called,
so that help and completion stay quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from forecast_cli import (
    activations,
    bench_step,
    bench_stream,
    config,
    data,
    data_convert,
    data_describe,
    data_prepare,
    doctor,
    evaluate,
    export,
    init,
    inspect,
    layers,
    predict,
    replay,
    state,
    stream,
    train,
    weights,
)
from forecast_cli.failures import CRASH_FOLDER_VARIABLE, guarded
from forecastd import __version__

START = "Start"
DATA = "Data"
MODELS = "Models"
LIVE = "Live"
HELP = "Help"


class Entry(NamedTuple):
    """A command: its words on the command line, its function, and its panel in the help."""

    words: str
    function: Callable[..., Any]
    panel: str


COMMANDS = [
    Entry("init", init.init, START),
    Entry("data check", data.check, DATA),
    Entry("data describe", data_describe.describe, DATA),
    Entry("data convert", data_convert.convert, DATA),
    Entry("data prepare", data_prepare.prepare, DATA),
    Entry("data synth", data_convert.synth, DATA),
    Entry("data fetch", data_prepare.fetch, DATA),
    Entry("train", train.train, MODELS),
    Entry("predict", predict.predict, MODELS),
    Entry("evaluate", evaluate.evaluate, MODELS),
    Entry("inspect", inspect.inspect, MODELS),
    Entry("layers", layers.layers, MODELS),
    Entry("activations", activations.activations, MODELS),
    Entry("export", export.export, MODELS),
    Entry("weights export", weights.export, MODELS),
    Entry("weights import", weights.import_, MODELS),
    Entry("stream", stream.stream, LIVE),
    Entry("replay", replay.replay, LIVE),
    Entry("state show", state.show, LIVE),
    Entry("state reset", state.reset, LIVE),
    Entry("bench step", bench_step.step, LIVE),
    Entry("bench stream", bench_stream.stream, LIVE),
    Entry("config show", config.show, HELP),
    Entry("config validate", config.validate, HELP),
    Entry("config schema", config.schema, HELP),
    Entry("doctor", doctor.doctor, HELP),
]

GROUPS = {
    "bench": "Measure how quick live forecasting is on this machine.",
    "state": "Look at the states of series in files, and forget them.",
    "weights": "Exchange weights with other systems.",
    "data": "Look at data sets, and make them ready for training.",
    "config": "Show and check configurations.",
}


def run() -> None:
    """Be the `forecast` process."""
    guarded(_build(_asked(sys.argv[1:])), "forecast")


def _asked(words: list[str]) -> list[Entry]:
    """Return the commands that a command line may mean: getting each ready takes milliseconds."""
    asked = [entry for entry in COMMANDS if entry.words.split()[0] in words[:1]]
    return asked or COMMANDS


class InTableOrder(TyperGroup):
    """Lists commands as COMMANDS does; Typer alone would put all groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of the table's first words."""
        order = list(dict.fromkeys(entry.words.split()[0] for entry in COMMANDS))
        return sorted(super().list_commands(ctx), key=order.index)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"forecast {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    crash_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the report of an unexpected error goes; default: the temporary folder.",
            envvar=CRASH_FOLDER_VARIABLE,
        ),
    ] = None,
) -> None:
    """Train LSTM forecasters on Parquet, score in batch, and follow live streams."""
    if crash_dir is not None:
        os.environ[CRASH_FOLDER_VARIABLE] = str(crash_dir)


def _build(entries: list[Entry]) -> typer.Typer:
    root = typer.Typer(
        cls=InTableOrder,
        rich_markup_mode="markdown",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    root.callback()(_root)
    groups: dict[str, typer.Typer] = {}
    for entry in entries:
        *group_words, word = entry.words.split()
        parent = root
        if group_words:
            name = group_words[0]
            if name not in groups:
                groups[name] = typer.Typer(rich_markup_mode="markdown", no_args_is_help=True)
                root.add_typer(
                    groups[name], name=name, help=GROUPS[name], rich_help_panel=entry.panel
                )
            parent = groups[name]
        panel = None if group_words else entry.panel
        parent.command(word, rich_help_panel=panel)(entry.function)
    return root


app = _build(COMMANDS)
