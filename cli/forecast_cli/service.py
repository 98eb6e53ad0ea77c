"""The `forecastd` command: run the daemon, check its configuration, ask how it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forecast_cli.failures import guarded
from forecast_cli.starting import starting
from forecastd import __version__

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

DEFAULT_CONFIG = Path("forecastd.toml")
_STATUS_LIMIT_S = 10.0

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The daemon's configuration, a TOML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated."),
]


def run() -> None:
    """Be the `forecastd` process."""
    guarded(app, "forecastd")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"forecastd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Forecast live streams, with one recurrent state per series that survives a crash."""


@app.command("run")
def run_daemon(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    once: Annotated[bool, typer.Option("--once", help="End when all sources have ended.")] = False,
) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C; SIGHUP reloads the model."""
    with starting():
        from forecastd.daemon import build
        from forecastd.daemon.signals import StoppedAtOnce

    try:
        build.run(build.Origin(config, overrides or []), build.ArtifactModels(), once=once)
    except StoppedAtOnce as stopped:
        raise typer.Exit(stopped.exit_code) from None


@app.command()
def check(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Validate the configuration and the model without running."""
    from forecast_cli.output import note, print_json
    from forecastd.daemon import build

    stepper = build.check(build.Origin(config, overrides or []), build.ArtifactModels(), note)
    if as_json:
        print_json({"config": config, "model_digest": stepper.digest})
    else:
        print(f"{config} is good: model {stepper.digest[:16]}")


app.command("validate", hidden=True, help="Alias of check.")(check)


@app.command()
def status(
    config: Config = DEFAULT_CONFIG,
    socket: Annotated[
        Path | None, typer.Option(help="The API's UNIX socket, instead of a configuration.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a running daemon counts."""
    from forecast_cli.output import print_json, print_table

    path = socket or _socket_of(config)
    answer = _ask(path)
    if as_json:
        print_json(answer)
        return
    rows = [(key, _text(value)) for key, value in answer.items()]
    print_table(["what", "value"], rows)


def _socket_of(config: Path) -> Path:
    from forecastd.daemon.settings import Places, load_settings

    return Places(load_settings(config)).api_socket


def _ask(path: Path) -> dict[str, Any]:
    """Return the daemon's /status."""
    import http.client
    import json
    import socket

    from forecastd.errors import PeerError

    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(_STATUS_LIMIT_S)
    try:
        connection.sock.connect(str(path))
        connection.request("GET", "/status")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        message = f"no daemon answers at {path}: {error}"
        raise PeerError(message, hint="start it with `forecastd run`") from error
    finally:
        connection.close()
    return answer


def _text(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else value
