"""Kinds of layers that map each number, or each step, by a fixed function."""

from __future__ import annotations

from collections.abc import Mapping

from forecastd.network.kinds.contract import IN, OUT, Facts, Kind, Options, Shape


class NoOptions(Options):
    """See layers.relu, layers.softmax."""


def _same(options: NoOptions, inputs: Mapping[str, Shape]) -> Facts:
    return Facts({OUT: inputs[IN]})


RELU = SOFTMAX = Kind(NoOptions, _same)
