"""Kinds of layers that are one linear map, and the options all such maps share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from forecastd.network.kinds.contract import (
    IN,
    OUT,
    Facts,
    Kind,
    Options,
    Shape,
    Whole,
    only_vectors,
)

Initializer = Literal["glorot", "he", "orthogonal", "narrow-normal", "zeros", "ones"]
"""How weights are drawn."""


class LearnRates(Options):
    """What the learning rate of each array is multiplied by; 0: it is not trained."""

    weight: float = 1.0
    bias: float = 1.0


class L2Factors(Options):
    """What the L2 penalty of each array is multiplied by."""

    weight: float = 1.0
    bias: float = 0.0


class MapOptions(Options):
    """Options of a layer with one weight and one bias."""

    weight_initializer: Initializer = "glorot"
    bias_initializer: Literal["zeros", "ones", "narrow-normal"] = "zeros"
    learn_rate_factors: LearnRates = LearnRates()
    l2_factors: L2Factors = L2Factors()


class FullyConnectedOptions(MapOptions):
    """See layers.fully_connected.FullyConnectedLayer."""

    size: int = Whole


def _fully_connected(options: FullyConnectedOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    weights = {"weight": (options.size, only_vectors(x)), "bias": (options.size,)}
    return Facts({OUT: Shape((options.size,), x.time, x.folded)}, weights)


FULLY_CONNECTED = Kind(FullyConnectedOptions, _fully_connected)
