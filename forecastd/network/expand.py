"""From [network], [features] and [task] to the network as data: named layers, and what enters them.

Nothing here reads data or imports torch, so a network that is written down wrong is told before
anything else happens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError

from forecastd.config import Loaded, TrainConfig
from forecastd.errors import ConfigError, SpecError
from forecastd.features.calendar import CLOCKS
from forecastd.features.spec import PARTS, FeatureSpec
from forecastd.network.kinds import KINDS
from forecastd.network.kinds.contract import Shape
from forecastd.network.kinds.entering import SEQUENCE_INPUT, SequenceInputOptions
from forecastd.network.outputs import head_kind, require_loss
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import INPUT, Wiring, options_of, problem_in, wire_network
from forecastd.network_settings import LayerSettings, NetworkSettings

EMBEDDING = 4
"""Numbers learned per series and category, where the series are forecast."""
TAKE_CODES = ("characters", "word_embedding")
"""Kinds of layers that look numbers up: as the first layer, they take them as they are."""


@dataclass(frozen=True)
class Known:
    """What the data say that features depend on.

    channels: numeric columns that enter. frames: shapes of columns whose elements these are.
    clocks, half_life, lags: those that usually help. vocabulary: codes per column.
    """

    channels: int
    frames: Mapping[str, Sequence[int]] = field(default_factory=dict)
    clocks: tuple[str, ...] = ()
    half_life: float = 12.0
    lags: int = 0
    vocabulary: tuple[int, ...] = ()


class Draft(NamedTuple):
    """A network before the data are known: the clocks among its features may be a guess."""

    features: FeatureSpec
    layers: tuple[LayerSpec, ...]
    wiring: Wiring


def layers_of(settings: NetworkSettings) -> tuple[LayerSpec, ...]:
    """Return the layers of [network] with their names, what they are fed with by port.

    A first table of the type sequence_input is no layer. Raises SpecError for names that are used
    twice and for more inputs than there are ports; `wire` finds what else is wrong.
    """
    if not settings.listed:
        return _chain(settings)
    named = _named(settings.listed)
    if misplaced := [name for name, table in named[1:] if table.type == SEQUENCE_INPUT]:
        message = f"layer {misplaced[0]!r} ({SEQUENCE_INPUT}) is not the first"
        raise SpecError(message, hint="there is one, and it comes first", layer=misplaced[0])
    entering = named[0][0] if settings.listed[0].type == SEQUENCE_INPUT else None
    real = named if entering is None else named[1:]
    if not real:
        message = f"layer {entering!r} ({SEQUENCE_INPUT}) has no layer after it"
        raise SpecError(message, hint="add one, as a table [[network.layers]]", layer=entering)
    return tuple(_layer(name, table, entering) for name, table in real)


def entering_of(settings: NetworkSettings) -> SequenceInputOptions | None:
    """Return what the table sequence_input says; None without one. Raises SpecError."""
    if not settings.listed or settings.listed[0].type != SEQUENCE_INPUT:
        return None
    [(name, table), *_] = _named(settings.listed)
    if table.inputs:
        message = f"layer {name!r} ({SEQUENCE_INPUT}) takes what the data give and has no inputs"
        raise SpecError(message, hint="leave inputs out", layer=name)
    try:
        return SequenceInputOptions.model_validate(table.options)
    except ValidationError as error:
        problem = problem_in(error, SequenceInputOptions)
        message = f"layer {name!r} ({SEQUENCE_INPUT}): {problem}"
        raise SpecError(message, layer=name) from None


def features_of(config: TrainConfig, known: Known) -> FeatureSpec:
    """Return the features: what the settings say, and for the rest what suits the task.

    Raises SpecError where sequence_input does not fit the data, ConfigError for settings that
    contradict.
    """
    wanted, entering = config.features, entering_of(config.network)
    plain = entering is not None or config.task.supervised or _takes_codes(config.network)
    lags = wanted.lags if wanted.lags is not None else (0 if plain else known.lags)
    if lags and config.task.supervised:
        raise ConfigError([f"features.lags: only forecasts have them, not a {config.task.kind}"])
    parts = wanted.parts or (PARTS[:1] if plain else PARTS)
    embedding = wanted.embedding if wanted.embedding is not None else (0 if plain else EMBEDDING)
    clocks = () if plain else known.clocks
    spec = FeatureSpec(
        channels=known.channels,
        clocks=clocks if wanted.calendar is None else tuple(wanted.calendar),
        half_life=wanted.half_life or known.half_life,
        lags=lags,
        embedding=embedding,
        vocabulary=known.vocabulary,
        scaling=scaling_of(config),
        parts=tuple(part for part in PARTS if part in parts),
        frame=entering.frame if entering is not None else (),
        min_length=1 if entering is None else entering.length or entering.min_length,
        max_length=0 if entering is None else entering.length or 0,
    )
    if entering is not None:
        _require_size(config, entering, known)
    if spec.frame and spec.width != spec.channels:
        problem = "features: a frame enters alone; leave out calendar, embedding and parts"
        raise ConfigError([problem])
    return spec


def scaling_of(config: TrainConfig) -> str:
    """Return how the values are scaled, one of SCALINGS. Raises ConfigError if said twice."""
    entering, wanted = entering_of(config.network), config.features.scaling
    if entering is not None and "normalization" in entering.model_fields_set:
        if wanted is not None:
            problem = f"features.scaling: the layer {SEQUENCE_INPUT} has a normalization already"
            raise ConfigError([problem], hint="leave one of them out")
        return entering.normalization
    if wanted is not None:
        return wanted
    if entering is not None or _takes_codes(config.network):
        return "none"
    return "zscore" if config.task.supervised else "running"


def wiring_with(layers: Sequence[LayerSpec], features: FeatureSpec) -> Wiring:
    """Return how layers are connected behind some features. Raises SpecError."""
    return wire_network(layers, Shape(features.sizes))


def check_network(config: TrainConfig) -> Draft:
    """Check the network with what is known before the data are read.

    Raises SpecError, one sentence that names the layer, or ConfigError.
    """
    require_loss(head_kind(config.task.kind, config.network.head.kind), config.train.loss)
    layers = layers_of(config.network)
    problem: SpecError | None = None
    for features in possible_features(config):
        try:
            wiring = wiring_with(layers, features)
        except SpecError as error:
            problem = problem or error
        else:
            _require_chunks(config, wiring)
            _require_no_foresight(config, wiring)
            return Draft(features, layers, wiring)
    assert problem is not None  # there is one possibility at least
    raise problem


def possible_features(config: TrainConfig) -> list[FeatureSpec]:
    """Return the features that there may be: the clocks may follow from the data."""
    entering, data = entering_of(config.network), config.data
    channels = len(data.past) if config.task.supervised else 1 + len(data.past)
    if entering is not None:
        if entering.channels < channels:  # a column can be more than one channel, never less
            _require_size(config, entering, Known(channels))
        channels = entering.channels
    columns = (1,) * (1 + len(data.static))
    clocks = [tuple(CLOCKS)[:count] for count in (2, 3, 1, 0)]
    found = (features_of(config, Known(channels, {}, some, 12.0, 0, columns)) for some in clocks)
    return list(dict.fromkeys(found))


def check_located(loaded: Loaded[TrainConfig]) -> Draft:
    """Check the network as `check_network`; a problem begins with the place of its table."""
    try:
        return check_network(loaded.settings)
    except SpecError as error:
        raise located(loaded, error) from error


def located(loaded: Loaded[TrainConfig], error: SpecError) -> ConfigError:
    """Return the same problem with the place of the layer's table in the config before it."""
    place = _place(loaded, error.layer)
    problem = f"{place}: {error.message}" if place else error.message
    return ConfigError([problem], hint=error.hint)


def _place(loaded: Loaded[TrainConfig], layer: str | None) -> str | None:
    """Return "file:line" of the table of a layer, or of whatever else [network] says."""
    named = _names(loaded.settings.network.listed)
    keys = [f"network.layers.{n}" for n, name in reversed(list(enumerate(named))) if name == layer]
    keys += ["network.layers", "network.kind", "network.hidden", "network.output"]
    return next((loaded.origins[key] for key in keys if key in loaded.origins), None)


def _chain(settings: NetworkSettings) -> tuple[LayerSpec, ...]:
    chain, kind, units = [], settings.kind, settings.units
    more = {}
    if settings.projection is not None:
        more = dict.fromkeys(("input_projector", "output_projector"), settings.projection)
    for number, hidden in enumerate(units, 1):
        mode = settings.output if number == len(units) else "sequence"
        options = {"hidden": hidden, "output": mode, **more}
        chain.append(LayerSpec(f"{kind}_{number}", kind, options))
        if settings.dropout > 0:
            share = {"share": settings.dropout}
            chain.append(LayerSpec(f"dropout_{number}", "dropout", share))
    return tuple(chain)


def _names(tables: Sequence[LayerSettings]) -> list[str]:
    """Return the name of each table: its own, or its type and a number that counts the type."""
    counts: Counter[str] = Counter()
    names = []
    for table in tables:
        counts[table.type] += 1
        names.append(table.name or f"{table.type}_{counts[table.type]}")
    return names


def _named(tables: Sequence[LayerSettings]) -> list[tuple[str, LayerSettings]]:
    """Return the tables with their names. Raises SpecError when one is used twice."""
    names = _names(tables)
    for name, count in Counter(names).items():
        if count > 1:
            message = f"two layers are called {name!r}"
            raise SpecError(message, hint="give each layer a name of its own", layer=name)
    return list(zip(names, tables, strict=True))


def _layer(name: str, table: LayerSettings, entering: str | None) -> LayerSpec:
    layer = LayerSpec(name, table.type, table.options)
    if table.inputs is None:
        return layer
    inputs = table.inputs
    if isinstance(inputs, list):
        ports = _ports(layer, len(inputs))
        if len(inputs) > len(ports) or not inputs:
            message = f"layer {name!r} ({table.type}) has {len(inputs)} inputs"
            raise SpecError(message, hint=f"it takes {', '.join(ports)}", layer=name)
        inputs = dict(zip(ports, inputs, strict=False))
    fed = {port: INPUT if source == entering else source for port, source in inputs.items()}
    return LayerSpec(name, table.type, table.options, fed)


def _ports(layer: LayerSpec, count: int) -> tuple[str, ...]:
    """Return the inputs of a layer in order; of one that takes any number, as many as wanted."""
    options = options_of(layer)
    kind = KINDS[layer.kind]
    return tuple(f"in{n}" for n in range(1, count + 1)) if kind.any_number else kind.ports(options)


def _takes_codes(settings: NetworkSettings) -> bool:
    tables = [table for table in settings.listed if table.type != SEQUENCE_INPUT]
    return bool(tables) and tables[0].type in TAKE_CODES


def _require_size(config: TrainConfig, entering: SequenceInputOptions, known: Known) -> None:
    """Raise SpecError unless as many numbers enter as the data give, in the shape they have."""
    name = _names(config.network.listed)[0]
    size = entering.size
    if entering.channels != known.channels:
        given = f"the data give {known.channels} numbers a step"
        message = f"layer {name!r} ({SEQUENCE_INPUT}) has the size {size}, and {given}"
        raise SpecError(message, hint="change size, or the columns in [data]", layer=name)
    for column, shape in known.frames.items():
        alone = entering.frame and math.prod(shape) == known.channels
        if alone and _without_ones(shape) != _without_ones(entering.frame):
            given = f"the frames in {column!r} are {list(shape)}"
            message = f"layer {name!r} ({SEQUENCE_INPUT}) has the size {size}, and {given}"
            raise SpecError(message, hint="write the shape of the frames", layer=name)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _require_chunks(config: TrainConfig, wiring: Wiring) -> None:
    """Raise SpecError when training would give the network less steps at once than it needs."""
    least, layer = least_steps(config, wiring)
    train = config.train
    if train.mode in {"lanes", "windows"} and train.sequence < least:
        message = f"layer {layer!r} needs sequences of at least {least} steps"
        hint = f"train.sequence is {train.sequence}; write {least} or more"
        raise SpecError(message, hint=hint, layer=layer)


def _require_no_foresight(config: TrainConfig, wiring: Wiring) -> None:
    """Raise SpecError when forecasts from each step would be made of what follows it."""
    reason = wiring.needs_future()
    if config.task.supervised or reason is None or not wiring.output.time:
        return
    layer = next(node.name for node in wiring.nodes if node.facts.needs_future is not None)
    message = f"{reason}, so at each step it would be shown what it is to forecast"
    hint = 'give it the output "last", which forecasts from the last step alone'
    raise SpecError(message, hint=hint, layer=layer)


def least_steps(config: TrainConfig, wiring: Wiring) -> tuple[int, str]:
    """Return how many steps a sequence must have at least, and the layer that asks for them."""
    entering = entering_of(config.network)
    wanted = 1 if entering is None else entering.length or entering.min_length
    if entering is not None and wanted >= wiring.min_length:
        return wanted, _names(config.network.listed)[0]
    asking = max(wiring.nodes, key=lambda node: node.facts.min_length)
    return wiring.min_length, asking.name
