"""Kinds of layers as data, without torch. To add one: a Kind, and a line here."""

from __future__ import annotations

from forecastd.network.kinds.contract import Kind
from forecastd.network.kinds.recurrent import LSTM
from forecastd.network.kinds.regular import DROPOUT

KINDS: dict[str, Kind] = {
    "lstm": LSTM,
    "dropout": DROPOUT,
}
"""What a layer's `type` may be."""
