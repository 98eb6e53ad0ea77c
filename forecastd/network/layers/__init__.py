"""Layers as torch modules, one file each. To add one: its Kind, its class, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from forecastd.network.layers.contract import Layer
from forecastd.network.layers.dropout import DropoutLayer
from forecastd.network.layers.lstm import LstmLayer

LAYERS: dict[str, Callable[..., Layer]] = {
    "lstm": LstmLayer,
    "dropout": DropoutLayer,
}
"""Kind: class. Takes the shapes that enter by port, the options, and the facts of its Kind."""
