"""The docs name everything a user can type, set or watch, and nothing that does not exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

from forecast_cli.config import toml_value
from forecastd.config import TrainConfig

PROJECT = Path(__file__).resolve().parents[1]
APPS = {"forecast": "forecast_cli.main", "forecastd": "forecast_cli.service"}


class Command(NamedTuple):
    """A command as a person types it, with its Typer object."""

    words: str
    parsed: Any


def _commands() -> list[Command]:
    found: list[Command] = []
    for name, module in APPS.items():
        if importlib.util.find_spec(module) is None:
            continue  # test_both_commands_exist says so; the other tests still run
        root = get_command(importlib.import_module(module).app)
        found += _walk(name, root)
    return found


def _walk(words: str, command: Any) -> Iterator[Command]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield Command(words, command)
    for word, child in inner.items():
        if not child.hidden:  # an alias
            yield from _walk(f"{words} {word}", child)


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def _keys(kind: type[BaseModel], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting with its default; a map of named tables is written `sources.NAME.key`."""
    for name, field in kind.model_fields.items():
        is_map = "dict" in str(field.annotation).lower()
        inner = list(_models_in(field.annotation))
        for model in inner:
            yield from _keys(model, f"{before}{name}.NAME." if is_map else f"{before}{name}.")
        if not inner or isinstance(field.default, int):  # or a number in place of the tables
            yield before + name, _default(field)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "-" if value is None else toml_value(value)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def _all_docs() -> str:
    pages = [*(PROJECT / "docs").rglob("*.md"), PROJECT / "README.md"]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def _missing(names: list[str], text: str) -> list[str]:
    return [name for name in names if not re.search(rf"{re.escape(name)}(?![\w.-])", text)]


def test_both_commands_exist() -> None:
    assert {command.words.split()[0] for command in _commands()} == set(APPS)


@pytest.mark.parametrize("command", _commands(), ids=lambda command: command.words)
def test_each_command_has_help_and_a_place_in_the_docs(command: Command) -> None:
    assert command.parsed.help, "no docstring"
    undescribed = [
        parameter.name
        for parameter in command.parsed.params
        if not parameter.help and not parameter.hidden
    ]
    assert undescribed == [], "parameters without help"
    assert _missing([command.words], _read("docs/guides/commands.md")) == []


@pytest.mark.parametrize("command", _commands(), ids=lambda command: command.words)
def test_each_option_is_in_the_docs(command: Command) -> None:
    section = _section(_read("docs/guides/commands.md"), command.words)
    long_options = [
        max(parameter.opts, key=len)
        for parameter in command.parsed.params
        if parameter.param_type_name == "option" and not parameter.hidden
    ]
    assert _missing([option for option in long_options if option != "--help"], section) == []


def _section(text: str, words: str) -> str:
    """Return what stands under the heading of a command."""
    match = re.search(rf"^#+ `{re.escape(words)}\b[^\n]*\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    return match[0] if match else ""


def _wrong_rows(kind: type[BaseModel], heading: str) -> dict[str, str]:
    """Return the settings whose row in the reference is missing or has another default."""
    page = _read("docs/reference/config.md")
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", section, re.M))
    settings = dict(_keys(kind))
    wrong = {key: default for key, default in settings.items() if rows.get(key) != default}
    return wrong | dict.fromkeys(rows.keys() - settings.keys(), "no such setting")


def test_each_setting_and_default_is_in_the_reference() -> None:
    assert _wrong_rows(TrainConfig, "forecast.toml") == {}


def test_each_setting_and_default_of_the_daemon_is_in_the_reference() -> None:
    settings = importlib.import_module("forecastd.daemon.settings")
    assert _wrong_rows(settings.DaemonSettings, "forecastd.toml") == {}


def test_each_metric_is_in_the_docs() -> None:
    source = _read("forecastd/daemon/events.py")
    metrics = sorted(set(re.findall(r'"(forecastd_[a-z0-9_]+)"', source)))
    assert metrics, "no metric found: has the way they are declared changed?"
    assert _missing(metrics, _all_docs()) == []


def test_each_package_is_in_the_architecture() -> None:
    inside = [path for path in (PROJECT / "forecastd").iterdir() if path.name[0] not in "_."]
    names = [f"{path.name}/" for path in inside if (path / "__init__.py").exists()]
    names += [path.name for path in inside if path.suffix == ".py"]
    text = _read("ARCHITECTURE.md")
    assert [name for name in names if name not in text] == []


def _typed_lines(text: str) -> Iterator[str]:
    """Yield the command lines in code blocks, continued lines joined."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
        if language not in {"", "console", "bash", "sh", "shell"}:
            continue
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            yield line.strip().removeprefix("$ ")


@pytest.mark.parametrize(
    "page", ["README.md", "docs/guides/commands.md", "docs/guides/daemon.md", "systemd/README.md"]
)
def test_code_blocks_name_only_existing_commands(page: str) -> None:
    known = {command.words: _options(command.parsed) for command in _commands()}
    targets = set(re.findall(r"^([a-z-]+):", _read("Makefile"), re.M))
    problems = []
    for line in _typed_lines(_read(page)):
        for part in re.split(r"\s[|&]+\s|[;()]", line.split(" #")[0]):
            problem = _problem(part.strip(), known, targets)
            problems += [f"{page}: {problem} in {line!r}"] if problem else []
    assert problems == []


def _problem(part: str, known: dict[str, set[str]], targets: set[str]) -> str | None:
    """Say what is wrong with one command of a code block; None if nothing is."""
    words = shlex.split(part.split(" <")[0].split(" >")[0], comments=True)
    if words[:1] == ["make"]:
        return None if set(words[1:]) <= targets else "unknown target"
    if not words or words[0] not in APPS:
        return None
    for count in (3, 2):
        command = " ".join(words[:count])
        if command in known:
            used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
            return f"unknown {used - known[command]}" if used - known[command] else None
    return None if words[1:2] in (["--version"], ["--help"]) else "unknown command"
