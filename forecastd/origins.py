"""Where each setting came from: the line of its key, and what is wrong there, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from forecastd.settings import ONE, SEVERAL, Settings


def is_tables(value: object) -> bool:
    """Tell whether a value is a list of tables, `[[...]]`."""
    return isinstance(value, list) and value != [] and all(isinstance(x, dict) for x in value)


def leaves(tree: Mapping[str, Any], before: str = "") -> list[str]:
    """Return the dotted keys of the values in a tree, and of the tables of lists, from 0."""
    found = []
    for key, value in tree.items():
        if is_tables(value):
            numbered = {str(number): inner for number, inner in enumerate(value)}
            found += [before + key, *(f"{before}{key}.{number}" for number in numbered)]
            found += leaves(numbered, f"{before}{key}.")
        elif isinstance(value, dict):
            found += leaves(value, f"{before}{key}.")
        else:
            found.append(before + key)
    return found


def key_lines(text: str) -> dict[str, int]:
    """Return the line of each table and key. Keys within an inline table have its line.

    The tables of a list `[[...]]` are counted from 0: network.layers.0.hidden.
    """
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]+", line):
            name = _newest(match[2].replace('"', ""), counts)
            lines.setdefault(name, number)
            if match[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                name = f"{name}.{counts[name]}"
                lines.setdefault(name, number)
            table = name + "."
        elif match := re.match(r"\s*([\w.\"-]+)\s*=", line):
            key = table + match[1].replace('"', "")
            lines.setdefault(key, number)
            for inner in re.findall(r"([\w-]+)\s*=", line[match.end() :]):
                lines.setdefault(f"{key}.{inner}", number)
    return lines


def places_of(tree: Mapping[str, Any], lines: Mapping[str, int], path: Path) -> dict[str, str]:
    """Return "file:line" for each dotted key of a tree: its own line, or that of its table."""
    places = {}
    for key in leaves(tree):
        written = _known_prefix(key.split("."), lines, {})
        places[key] = f"{path}:{lines.get(written, '?')}"
    return places


def _newest(name: str, counts: Mapping[str, int]) -> str:
    """Return the name of a table that lies in the newest of each list of tables that it names."""
    found = ""
    for part in name.split("."):
        found += f".{counts[found]}" if found in counts else ""
        found += f".{part}" if found else part
    return found


@dataclass(frozen=True)
class Found:
    """What a file and the overrides said, and where."""

    path: Path
    tree: Mapping[str, Any]
    lines: Mapping[str, int]
    origins: Mapping[str, str]


def problems_of(error: ValidationError, kind: type[Settings], found: Found) -> list[str]:
    """Return what is wrong with settings of `kind`, a sentence each that begins with its place."""
    problems: list[str] = []
    for item in error.errors():
        names = _without_tags(item["loc"], found.tree)
        dotted = _known_prefix(names, found.lines, found.origins)
        where = found.origins.get(dotted) or f"{found.path}:{found.lines.get(dotted, 1)}"
        if item["type"] == "extra_forbidden":
            known = _known_keys(kind, [str(part) for part in item["loc"][:-1]])
            close = difflib.get_close_matches(names[-1], known, n=1, cutoff=0.4)
            tail = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            text = f"unknown key {'.'.join(names)!r}{tail}"
        elif item["type"] == "missing":
            text = f"key {'.'.join(names)!r} is missing"
        else:
            reason = item["msg"].removeprefix("Value error, ")
            text = f"{dotted or 'settings'}: {reason}"
            text += "" if isinstance(item["input"], dict) else f", found {item['input']!r}"
        problem = f"{where}: {text}"
        if problem not in problems:
            problems.append(problem)
    return problems


def _known_prefix(names: list[str], lines: Mapping[str, int], origins: Mapping[str, str]) -> str:
    """Return the longest part of a location that somebody wrote down."""
    for end in range(len(names), 0, -1):
        dotted = ".".join(names[:end])
        if dotted in origins or dotted in lines:
            return dotted
    return ""


def _without_tags(location: tuple[int | str, ...], tree: Any) -> list[str]:
    """Return the keys of a location.

    pydantic adds the `type` of a table that has several kinds, and how a value was taken that may
    be a list or not.
    """
    names = []
    for part in location:
        if part in (ONE, SEVERAL) or (isinstance(tree, dict) and _is_tag(part, tree)):
            continue
        names.append(str(part))
        tree = _within(tree, part)
    return names


def _is_tag(part: int | str, table: Mapping[Any, Any]) -> bool:
    return part not in table and table.get("type") == part


def _within(tree: Any, part: int | str) -> Any:
    if isinstance(tree, list) and isinstance(part, int) and part < len(tree):
        return tree[part]
    return tree.get(part) if isinstance(tree, dict) else None


def _known_keys(kind: type[BaseModel], names: list[str]) -> list[str]:
    """Return the keys of the table that `names` leads to, through maps of named tables too."""
    model, choices = kind, [kind]
    for name in names:
        if field := model.model_fields.get(name):
            choices = _models_in(field.annotation)
            model = choices[0] if choices else model
        else:  # the name of a table, or the `type` that says which kind of table it is
            model = next((choice for choice in choices if name in _types_of(choice)), model)
    return list(model.model_fields)


def _types_of(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("type")
    return getattr(field.annotation, "__args__", ()) if field else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        found += _models_in(argument)
    return found
