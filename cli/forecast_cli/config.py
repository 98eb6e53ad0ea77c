"""`forecast config`: what the settings are, where each came from, and whether a file is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # help does not need it
    from pydantic import BaseModel


def show(
    file: Annotated[Path, typer.Argument(help="The config.")] = Path("forecast.toml"),
    origin: Annotated[
        bool, typer.Option("--origin", help="Tell where each value came from.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-S", metavar="KEY=VALUE", help="Override a key, as in train."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting with its value, as TOML that can be used as a config."""
    from forecast_cli.output import print_json
    from forecastd.config import TrainConfig, load

    loaded = load(TrainConfig, file, overrides=overrides)
    values = dict(leaves(loaded.settings))
    if as_json and origin:
        print_json({k: {"value": v, "origin": loaded.origin(k)} for k, v in values.items()})
    elif as_json:
        print_json(values)
    else:
        for key, value in values.items():
            line = f"# {key} is not set" if value is None else f"{key} = {toml_value(value)}"
            print(f"{line:<40}  # {loaded.origin(key)}" if origin else line)


def validate(
    files: Annotated[list[Path], typer.Argument(help="One or more configs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check configs and list all their problems; exit 2 if there is one."""
    from forecast_cli.output import print_json
    from forecastd.config import TrainConfig, load
    from forecastd.errors import ConfigError
    from forecastd.network.expand import check_located

    problems: dict[str, list[str]] = {}
    for file in files:
        problems[str(file)] = []
        try:
            check_located(load(TrainConfig, file))
        except ConfigError as error:
            problems[str(file)] = error.problems
    if as_json:
        print_json([{"file": f, "valid": not p, "problems": p} for f, p in problems.items()])
    found = [problem for of_file in problems.values() for problem in of_file]
    if found and as_json:
        raise typer.Exit(ConfigError.exit_code)
    if found:
        raise ConfigError(found)
    if not as_json:
        for name in problems:
            print(f"{name}: valid")


def schema() -> None:
    """Print the JSON Schema of forecast.toml, for editors."""
    from forecast_cli.output import print_json
    from forecastd.config import TrainConfig

    print_json(TrainConfig.model_json_schema())


def leaves(settings: BaseModel, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting as a dotted key and its value, in the order of the tables."""
    from pydantic import BaseModel

    for name, plain in settings.model_dump().items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name, plain


def toml_value(value: object) -> str:
    """Return a setting's value as TOML writes it."""
    import tomlkit

    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, dict):
        given = {name: item for name, item in value.items() if item is not None}
        inside = ", ".join(f"{toml_key(name)} = {toml_value(item)}" for name, item in given.items())
        return f"{{ {inside} }}"
    return tomlkit.item(value).as_string()


def toml_key(name: str) -> str:
    """Return a name as the key of a TOML table."""
    import tomlkit

    return tomlkit.key(name).as_string()
