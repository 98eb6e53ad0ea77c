"""How quickly each parameter learns: the factors of its layer, and the rules of the settings.

An array is called "layer/array", as "lstm_1/lstm.weight_hh_l0"; the parts beside the layers are
called "encoder" and "head". A rule may leave out what is before the last dot of the array.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from forecastd.errors import ConfigError
from forecastd.network.layers.contract import Factor
from forecastd.network.model import ForecastNetwork
from forecastd.train_settings import MultiplierSettings, TrainSettings

_LAYERS = "layers."


@dataclass(frozen=True)
class Trained:
    """A parameter that is trained. rate: times the learning rate; penalty: times the L2 factor."""

    name: str
    parameter: nn.Parameter
    rate: Factor
    penalty: Factor


def array_name(parameter: str) -> str:
    """Return "layer/array" for the name of a parameter of a network."""
    layer, _, array = parameter.removeprefix(_LAYERS).partition(".")
    return f"{layer}/{array}"


def learning_rate_multipliers(
    arrays: Iterable[str], layers: Sequence[str], rules: Sequence[MultiplierSettings]
) -> dict[str, float]:
    """Return the multiplier of each array: that of the first rule that names it, else 1.

    arrays: as `array_name` gives them. layers: names in order, for rules that give numbers, from 1
    or negative from the end; "2..4" are several. Raises ConfigError when a rule names nothing.
    """
    found = dict.fromkeys(arrays, 1.0)
    for rule in reversed(rules):  # so that the first has the last word
        named = [array for array in found if _names(rule.part, array, layers)]
        if not named:
            problem = f"train.multipliers: {rule.part!r} names no weights of the network"
            parts = ", ".join(dict.fromkeys(array.partition("/")[0] for array in found))
            raise ConfigError([problem], hint=f"there are {parts}")
        found |= dict.fromkeys(named, rule.rate)
    return found


def trained_parameters(network: ForecastNetwork, train: TrainSettings) -> list[Trained]:
    """Return the parameters to train, in the order of the network, and freeze all others.

    A rate of 0, of a rule or of a layer, freezes; so does a layer itself. Raises ConfigError when
    a rule names nothing, or nothing is left to train.
    """
    parameters = dict(network.named_parameters())
    arrays = [array_name(name) for name in parameters]
    rules = learning_rate_multipliers(arrays, list(network.layers), train.multipliers)
    factors = _factors(network)
    trained = []
    for name, parameter in parameters.items():
        rate, penalty = factors.get(name, (1.0, 0.0 if parameter.ndim == 1 else 1.0))
        rate = _simple(rate * rules[array_name(name)], parameter)
        if isinstance(rate, float) and rate == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            trained.append(Trained(name, parameter, rate, _simple(penalty, parameter)))
    if not trained:
        problem = "train.multipliers: every weight has the rate 0, so there is nothing to train"
        raise ConfigError([problem])
    return trained


def _factors(network: ForecastNetwork) -> dict[str, tuple[Factor, Factor]]:
    """Return what the layers say, by the name of the parameter in the network."""
    return {
        f"{_LAYERS}{layer}.{name}": factors
        for layer in network.layers
        for name, factors in network.layers.layer(layer).factors().items()
    }


def _simple(factor: Factor, parameter: nn.Parameter) -> Factor:
    """Return a number where all entries have the same factor, else a tensor for the parameter."""
    if not isinstance(factor, Tensor):
        return float(factor)
    found = factor.detach().to(parameter.device, parameter.dtype)
    first = found.flatten()[0]
    if bool((found == first).all()):
        return float(first)
    return found.view(-1, *[1] * (parameter.ndim - 1)) if found.ndim == 1 else found


def _names(part: str | int, array: str, layers: Sequence[str]) -> bool:
    """Return whether a part, as a rule writes it, has this array in it."""
    layer, _, inner = array.partition("/")
    if part == "_":
        return True
    numbered = _numbered(part, len(layers))
    if numbered is not None:
        return layer in layers[numbered]
    pattern = str(part)
    names = layer, array, f"{layer}/{inner.rpartition('.')[2]}"
    return any(fnmatchcase(name, pattern) for name in names)


def _numbered(part: str | int, count: int) -> slice | None:
    """Return which of the layers a number or a range means; None where it is neither."""
    ends = re.fullmatch(r"(-?\d+)?\.\.(-?\d+)?", str(part))
    if isinstance(part, int):
        first, last = part, part
    elif ends is not None:
        first, last = int(ends[1] or 1), int(ends[2] or count)
    else:
        return None
    start, stop = (number + count + 1 if number < 0 else number for number in (first, last))
    return slice(max(start, 1) - 1, max(stop, 0)) if first and last else slice(0, 0)


def require_plain(trained: Sequence[Trained], solver: str) -> None:
    """Raise ConfigError unless all parameters learn equally quickly, as some solvers need."""
    for one in trained:
        if isinstance(one.rate, torch.Tensor) or one.rate != 1:
            problem = f"train.solver: {solver} takes one step for all weights, and "
            problem += f"{array_name(one.name)} has a learning rate of its own"
            raise ConfigError([problem], hint="freeze it with the rate 0, or use another solver")
