"""Run the real daemon with the small stepper: python mean_daemon.py CONFIG [--once].

A process of its own, so that tests can kill it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from steppers import MeanModels

from forecast_cli.failures import guarded
from forecastd.daemon import build
from forecastd.daemon.signals import StoppedAtOnce

app = typer.Typer()


@app.command()
def main(config: Path, once: bool = False) -> None:
    try:
        build.run(build.Origin(config, []), MeanModels(), once=once)
    except StoppedAtOnce as stopped:
        raise typer.Exit(stopped.exit_code) from None


if __name__ == "__main__":
    sys.exit(guarded(app, "mean_daemon"))
