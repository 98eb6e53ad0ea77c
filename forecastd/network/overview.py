"""What a network is, layer by layer, and what kinds of layers there are: for people, without torch.

What Wolfram calls Information of a net and Options of a type of layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from forecastd.errors import UserError
from forecastd.network.kinds import KINDS
from forecastd.network.kinds.about import ABOUT, MEANINGS, PORTS
from forecastd.network.kinds.contract import Options, Shape
from forecastd.network.kinds.entering import SEQUENCE_INPUT, SequenceInputOptions
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import Node, Wiring


@dataclass(frozen=True)
class Row:
    """One layer of a network.

    arrays: shapes of its weights by name. parameters: how many numbers of them are learned. state:
    numbers that a series remembers. reason: why it cannot be stepped as observations arrive; None
    where it can.
    """

    name: str
    kind: str
    options: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, Shape]
    arrays: dict[str, tuple[int, ...]]
    parameters: int
    state: int
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries; `LayerSpec(name, kind, options, inputs)` reads it.

        outputs: by port the sizes, and whether there is one at each step.
        """
        outputs = {n: {"sizes": list(x.sizes), "time": x.time} for n, x in self.outputs.items()}
        return {
            "name": self.name,
            "kind": self.kind,
            "options": self.options,
            "inputs": self.inputs,
            "outputs": outputs,
            "arrays": {name: list(shape) for name, shape in self.arrays.items()},
            "parameters": self.parameters,
            "state": self.state,
            "streamable": self.reason is None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class OptionRow:
    """One option of a kind of layer, all as text: its values, its default, what it means."""

    name: str
    values: str
    default: str
    meaning: str


def rows_of(layers: tuple[LayerSpec, ...], wiring: Wiring) -> list[Row]:
    """Return the layers of a network, each after those that feed it."""
    given = {layer.name: layer.options for layer in layers}
    return [_row(node, given[node.name]) for node in wiring.nodes]


def options_table(kind: str) -> list[OptionRow]:
    """Return the options of a kind of layer. Raises UserError for a kind there is not."""
    return list(_options(kind, options_class(kind)))


def options_class(kind: str) -> type[Options]:
    """Return the type of the options of a kind of layer. Raises UserError."""
    if kind == SEQUENCE_INPUT:
        return SequenceInputOptions
    if kind not in KINDS:
        message = f"there is no layer of the type {kind!r}"
        raise UserError(message, hint=f"known: {', '.join(kinds())}")
    return KINDS[kind].options


def kinds() -> list[str]:
    """Return all types that a table of a list of layers may have."""
    return [SEQUENCE_INPUT, *KINDS]


def about(kind: str) -> str:
    """Return in a line what a kind of layer does."""
    return ABOUT.get(kind, "")


def reference_page() -> str:
    """Return the page docs/reference/layers.md: every kind with its options, as Markdown."""
    lines = [
        "# Layers",
        "",
        "What a table `[[network.layers]]` may be ([guide](../guides/networks.md)): its `type`,",
        "and the options of that type. `forecast layers TYPE` prints the same, and",
        "`forecast layers --markdown` writes this page.",
    ]
    for kind in kinds():
        lines += ["", f"## {kind}", "", f"{_sentence(about(kind))}{_ports_of(kind)}"]
        if rows := options_table(kind):
            lines += ["", "| option | values | default | meaning |", "|---|---|---|---|"]
            for row in rows:
                cells = (f"`{row.name}`", row.values, row.default, row.meaning)
                lines.append(f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |")
    return "\n".join(lines) + "\n"


_BAR = r"\|"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _ports_of(kind: str) -> str:
    """Say what can be connected to a kind of layer, where that is more than one input."""
    if kind in KINDS and KINDS[kind].any_number:
        return " Takes any number of inputs, in the order of the list."
    return PORTS.get(kind, "")


def _row(node: Node, options: dict[str, Any]) -> Row:
    facts = node.facts
    inputs = {port: str(source) for port, source in node.inputs.items()}
    state = sum(math.prod(shape) for shape in facts.state.values())
    return Row(
        name=node.name,
        kind=node.kind,
        options=options,
        inputs=inputs,
        outputs=facts.outputs,
        arrays=dict(facts.weights),
        parameters=facts.parameters,
        state=state,
        reason=facts.needs_future,
    )


def _options(kind: str, wanted: type[Options], before: str = "") -> Iterator[OptionRow]:
    """Yield the options of a type, those of a table within as table.option."""
    for name, field in wanted.model_fields.items():
        inner = _table_in(field.annotation)
        if inner is not None:
            yield from _options(kind, inner, f"{before}{name}.")
        else:
            dotted = before + name
            meaning = MEANINGS.get(f"{kind}.{dotted}") or field.description or MEANINGS.get(dotted)
            yield OptionRow(dotted, _values(field), _default(field), meaning or "")


def _table_in(annotation: Any) -> type[Options] | None:
    if get_origin(annotation) is Annotated:
        return _table_in(get_args(annotation)[0])
    is_table = isinstance(annotation, type) and issubclass(annotation, Options)
    return annotation if is_table else None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "-" if value is None else _text(value)


def _text(value: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Options):
        given = value.model_dump(exclude_none=True)
        return f"{{ {', '.join(f'{name} = {_text(one)}' for name, one in given.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _values(field: FieldInfo) -> str:
    """Return what an option may be, in words."""
    return " or ".join(dict.fromkeys(_kinds_in(field.annotation)))


_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def _kinds_in(annotation: Any) -> Iterator[str]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield ", ".join(map(_text, inner))
    elif origin is Annotated:
        yield from _kinds_in(inner[0])
    elif origin in {list, dict, tuple}:
        yield "list" if origin is not dict else "table"
    elif inner:
        for one in inner:
            yield from _kinds_in(one)
    elif annotation in _WORDS:
        yield _WORDS[annotation]
