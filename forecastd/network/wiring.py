"""How the layers of a spec are connected: order, ports and shapes, checked without torch.

A layer takes what the one before it gives, unless its `inputs` say otherwise. What the encoder
gives is called "input"; the network's output is that of the last layer of the list.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from forecastd.errors import SpecError
from forecastd.network.kinds import KINDS
from forecastd.network.kinds.contract import IN, OUT, Facts, Kind, Options, Shape
from forecastd.network.spec import LayerSpec

INPUT = "input"
"""The name of what the encoder gives, as the source of a layer."""


class Port(NamedTuple):
    """One output of one layer."""

    layer: str
    port: str = OUT

    @classmethod
    def parse(cls, text: str) -> Port:
        """Read "layer" or "layer/port"."""
        layer, _, port = text.partition("/")
        return cls(layer, port or OUT)

    def __str__(self) -> str:
        return self.layer if self.port == OUT else f"{self.layer}/{self.port}"


@dataclass(frozen=True)
class Node:
    """A layer in its place. inputs: where each of its ports is fed from; entering: with what."""

    name: str
    kind: str
    options: Options
    inputs: dict[str, Port]
    entering: dict[str, Shape]
    facts: Facts


@dataclass(frozen=True)
class Wiring:
    """nodes: each after those that feed it. last: the layer that the head reads."""

    nodes: tuple[Node, ...]
    last: str
    output: Shape

    @property
    def is_chain(self) -> bool:
        """Whether each layer takes what the one before it gives and nothing else."""
        before = INPUT
        for node in self.nodes:
            if node.inputs != {IN: Port(before)}:
                return False
            before = node.name
        return before == self.last

    @property
    def min_length(self) -> int:
        """The fewest steps a sequence must have for every layer to give something."""
        needed: dict[Port, int] = {}
        for node in reversed(self.nodes):
            own = max(needed.get(Port(node.name, port), 1) for port in node.facts.outputs)
            steps = node.facts.min_length + (own - 1) * node.facts.stride
            for source in node.inputs.values():
                needed[source] = max(needed.get(source, 1), steps)
        return needed.get(Port(INPUT), 1)

    @property
    def uneven(self) -> str | None:
        """The layer from which on the output has other steps than what enters; None if the same.

        None as well where the output is one value for the whole sequence.
        """
        blamed: dict[Port, str | None] = {Port(INPUT): None}
        for node in self.nodes:
            before = next(filter(None, (blamed[port] for port in node.inputs.values())), None)
            own = before if node.facts.keeps_length else (before or node.name)
            for port, shape in node.facts.outputs.items():
                blamed[Port(node.name, port)] = own if shape.time else None
        return blamed[Port(self.last)]

    def needs_future(self) -> str | None:
        """Return why the network cannot follow a stream, naming the layer; None if it can."""
        for node in self.nodes:
            if node.facts.needs_future is not None:
                return f"layer {node.name!r} ({node.kind}) {node.facts.needs_future}"
        return None


def wire(layers: Sequence[LayerSpec], entering: Shape) -> Wiring:
    """Connect layers and infer every shape. entering: what the encoder gives.

    Raises SpecError, one sentence that names the layer: an unknown kind or option, a name that is
    used twice, a port that is not there or not connected, a cycle, shapes that do not fit.
    """
    _require_names(layers)
    options = {layer.name: options_of(layer) for layer in layers}
    sources = _sources(layers, options)
    shapes: dict[Port, Shape] = {Port(INPUT): entering}
    nodes = []
    for layer in _in_order(layers, sources):
        own = sources[layer.name]
        entered = {port: _shape_at(layer, source, shapes) for port, source in own.items()}
        facts = _facts(layer, options[layer.name], entered, own)
        shapes |= {Port(layer.name, port): shape for port, shape in facts.outputs.items()}
        nodes.append(Node(layer.name, layer.kind, options[layer.name], own, entered, facts))
    last = layers[-1].name if layers else INPUT
    if Port(last) not in shapes:
        message = f"layer {last!r} ({layers[-1].kind}) is the last and has no port {OUT!r}"
        raise SpecError(message, layer=last)
    if shapes[Port(last)].folded:
        message = f"layer {last!r} ({layers[-1].kind}) is the last and gives what is still folded"
        raise SpecError(message, hint="put an unfolding layer after it", layer=last)
    return Wiring(tuple(nodes), last, shapes[Port(last)])


def wire_network(layers: Sequence[LayerSpec], entering: Shape) -> Wiring:
    """Connect the layers of a whole network: one output for each step that enters, or for all.

    Raises SpecError as `wire` does, and where there are other steps in the end.
    """
    wiring = wire(layers, entering)
    if name := wiring.uneven:
        kind = next(node.kind for node in wiring.nodes if node.name == name)
        message = f"layer {name!r} ({kind}) gives other steps than enter, and so does the network"
        hint = (
            'use stride 1 with padding "same" or "causal", or a layer that gives one value in all'
        )
        raise SpecError(message, hint=hint, layer=name)
    return wiring


def _require_names(layers: Sequence[LayerSpec]) -> None:
    names: set[str] = set()
    for layer in layers:
        good = (
            isinstance(layer.name, str) and layer.name.replace("_", "").replace("-", "").isalnum()
        )
        if not good or layer.name == INPUT:
            message = f"{layer.name!r} cannot be the name of a layer"
            hint = 'write letters, digits, "-" and "_"; "input" is taken'
            raise SpecError(message, hint=hint, layer=layer.name)
        if layer.name in names:
            message = f"two layers are called {layer.name!r}"
            raise SpecError(message, hint="give each layer a name of its own", layer=layer.name)
        names.add(layer.name)


def options_of(layer: LayerSpec) -> Options:
    """Return the options of a layer, checked. Raises SpecError."""
    if layer.kind not in KINDS:
        close = difflib.get_close_matches(str(layer.kind), KINDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(KINDS)}"
        message = f"layer {layer.name!r} has the unknown kind {layer.kind!r}"
        raise SpecError(message, hint=hint, layer=layer.name)
    wanted = KINDS[layer.kind].options
    try:
        return wanted.model_validate(layer.options)
    except ValidationError as error:
        message = f"layer {layer.name!r} ({layer.kind}): {problem_in(error, wanted)}"
        raise SpecError(message, layer=layer.name) from None


def problem_in(error: ValidationError, wanted: type[Options]) -> str:
    """Return the first thing that is wrong with the options of a layer, in words."""
    found = error.errors()
    item = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(place, wanted.model_fields, n=1)
        known = ", ".join(wanted.model_fields) or "none"
        tail = f"did you mean {close[0]!r}?" if close else f"known: {known}"
        return f"unknown option {place!r}; {tail}"
    if item["type"] == "missing":
        return f"option {place!r} is missing"
    reason = item["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}, found {item['input']!r}" if place else reason


def _sources(
    layers: Sequence[LayerSpec], options: Mapping[str, Options]
) -> dict[str, dict[str, Port]]:
    """Return where each port of each layer is fed from. Raises SpecError."""
    found: dict[str, dict[str, Port]] = {}
    names = {layer.name for layer in layers} | {INPUT}
    before = INPUT
    for layer in layers:
        kind, ports = KINDS[layer.kind], KINDS[layer.kind].ports(options[layer.name])
        given = {port: Port.parse(text) for port, text in layer.inputs.items()}
        given = given or {ports[0]: Port(before)}
        for port, source in given.items():
            if port not in ports and not kind.any_number:
                message = f"layer {layer.name!r} ({layer.kind}) has no input {port!r}"
                raise SpecError(
                    message, hint=f"its inputs are {', '.join(ports)}", layer=layer.name
                )
            if source.layer not in names:
                message = (
                    f"layer {layer.name!r} takes its input from {source.layer!r}, which is none"
                )
                raise SpecError(
                    message, hint=f"layers: {', '.join(sorted(names))}", layer=layer.name
                )
        _require_connected(layer, kind, ports, given)
        found[layer.name], before = given, layer.name
    return found


def _require_connected(
    layer: LayerSpec, kind: Kind, ports: Iterable[str], given: Mapping[str, Any]
) -> None:
    missing = [port for port in ports if port not in given and port not in kind.optional]
    if missing and not kind.any_number:
        message = (
            f"the input {missing[0]!r} of layer {layer.name!r} ({layer.kind}) is not connected"
        )
        hint = f'write inputs = {{ {missing[0]} = "layer/port" }}'
        raise SpecError(message, hint=hint, layer=layer.name)


def _in_order(
    layers: Sequence[LayerSpec], sources: Mapping[str, Mapping[str, Port]]
) -> list[LayerSpec]:
    """Return the layers so that each comes after those that feed it. Raises SpecError."""
    ordered: list[LayerSpec] = []
    done, left = {INPUT}, list(layers)
    while left:
        ready = (x for x in left if all(port.layer in done for port in sources[x.name].values()))
        layer = next(ready, None)
        if layer is None:
            names = ", ".join(repr(layer.name) for layer in left)
            message = f"the layers {names} feed each other in a circle"
            hint = "a layer cannot take what follows from its own output"
            raise SpecError(message, hint=hint, layer=left[0].name)
        ordered.append(layer)
        done.add(layer.name)
        left.remove(layer)
    return ordered


def _shape_at(layer: LayerSpec, source: Port, shapes: Mapping[Port, Shape]) -> Shape:
    if source not in shapes:
        known = ", ".join(p.port for p in shapes if p.layer == source.layer)
        message = f"layer {layer.name!r} is fed from {str(source)!r}, which has no such output"
        hint = f"the outputs of {source.layer!r} are {known}"
        raise SpecError(message, hint=hint, layer=layer.name)
    return shapes[source]


def _facts(
    layer: LayerSpec, options: Options, entering: Mapping[str, Shape], sources: Mapping[str, Port]
) -> Facts:
    try:
        return KINDS[layer.kind].facts(options, entering)
    except ValueError as error:
        fed = ", ".join(f"{port} {entering[port]} from {sources[port]}" for port in entering)
        message = f"layer {layer.name!r} ({layer.kind}) {error} [{fed}]"
        raise SpecError(message, layer=layer.name) from None
