"""Kinds of layers that make one of several inputs, as many as are connected and of any name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from forecastd.network.kinds.contract import OUT, Facts, Kind, Options, Shape


class JoiningOptions(Options):
    """See layers.joining."""


def _addition(options: JoiningOptions, inputs: Mapping[str, Shape]) -> Facts:
    shapes = list(inputs.values())
    if any(shape != shapes[0] for shape in shapes):
        message = f"adds what has one shape, and what enters is {_listed(shapes)}"
        raise ValueError(message)
    return Facts({OUT: shapes[0]})


def _concatenation(options: JoiningOptions, inputs: Mapping[str, Shape]) -> Facts:
    shapes = list(inputs.values())
    first = shapes[0]
    if any(
        replace(s, sizes=first.sizes) != first or s.sizes[1:] != first.sizes[1:] for s in shapes
    ):
        message = f"joins channels of what is alike otherwise; what enters is {_listed(shapes)}"
        raise ValueError(message)
    channels = sum(shape.sizes[0] for shape in shapes)
    return Facts({OUT: replace(first, sizes=(channels, *first.sizes[1:]))})


def _listed(shapes: list[Shape]) -> str:
    return " and ".join(map(str, shapes))


ADDITION = Kind(JoiningOptions, _addition, any_number=True)
CONCATENATION = Kind(JoiningOptions, _concatenation, any_number=True)
