"""Kinds of layers that remember through a recurrence."""

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
    only_sequences,
    only_vectors,
)


class LstmOptions(Options):
    """See layers.lstm.LstmLayer."""

    hidden: int = Whole
    output: Literal["sequence", "last"] = "sequence"


def _lstm(options: LstmOptions, inputs: Mapping[str, Shape]) -> Facts:
    x, hidden = inputs[IN], options.hidden
    only_sequences(x)
    weights = {
        "lstm.weight_ih_l0": (4 * hidden, only_vectors(x)),
        "lstm.weight_hh_l0": (4 * hidden, hidden),
        "lstm.bias_ih_l0": (4 * hidden,),
        "lstm.bias_hh_l0": (4 * hidden,),
    }
    state = {"hidden": (hidden,), "cell": (hidden,)}
    return Facts({OUT: Shape((hidden,), options.output == "sequence")}, weights, state)


LSTM = Kind(LstmOptions, _lstm)
