"""What layers with one weight and one bias have in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from forecastd.network.kinds.contract import Facts, Shape
from forecastd.network.kinds.linear import MapOptions
from forecastd.network.layers.contract import Factor, Layer
from forecastd.network.layers.initial import WEIGHTS


def drawn(shape: tuple[int, ...], how: str) -> nn.Parameter:
    """Return a parameter drawn as a kind's option says: a name of initial.WEIGHTS."""
    weight = nn.Parameter(torch.empty(shape))
    with torch.no_grad():
        WEIGHTS[how](weight)
    return weight


class MapLayer(Layer):
    """Base of layers with `weight` and `bias`, of the shapes that their kind says."""

    options: MapOptions

    def __init__(self, entering: Mapping[str, Shape], options: MapOptions, facts: Facts) -> None:
        super().__init__(entering, options, facts)
        self.weight = drawn(facts.weights["weight"], options.weight_initializer)
        self.bias = drawn(facts.weights["bias"], options.bias_initializer)

    def factors(self) -> dict[str, tuple[Factor, Factor]]:
        """Return the factors of the options."""
        rates, penalties = self.options.learn_rate_factors, self.options.l2_factors
        return {
            "weight": (rates.weight, penalties.weight),
            "bias": (rates.bias, penalties.bias),
        }
