"""Kinds of layers that lay out anew what passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from forecastd.network.kinds.contract import (
    IN,
    OUT,
    Facts,
    Kind,
    Options,
    Shape,
    only_sequences,
)

MINI_BATCH_SIZE = "mini_batch_size"
"""The port by which a folding layer tells an unfolding layer how many series there are."""

_COUNT = Shape((), time=False)


class FoldingOptions(Options):
    """See layers.folding.FoldingLayer."""


def _folding(options: FoldingOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    only_sequences(x)
    return Facts({OUT: replace(x, folded=True), MINI_BATCH_SIZE: _COUNT})


FOLDING = Kind(FoldingOptions, _folding)


class UnfoldingOptions(Options):
    """See layers.folding.UnfoldingLayer."""


def _unfolding(options: UnfoldingOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    if not x.folded:
        message = f"takes what a folding layer has folded, and what enters is {x}"
        raise ValueError(message)
    if inputs[MINI_BATCH_SIZE] != _COUNT:
        message = f'takes mini_batch_size from a folding layer: write "NAME/{MINI_BATCH_SIZE}"'
        raise ValueError(message)
    return Facts({OUT: replace(x, folded=False)})


UNFOLDING = Kind(UnfoldingOptions, _unfolding, lambda options: (IN, MINI_BATCH_SIZE))


class FlattenOptions(Options):
    """See layers.flatten.FlattenLayer."""


def _flatten(options: FlattenOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    return Facts({OUT: Shape((x.width,), x.time, x.folded)})


FLATTEN = Kind(FlattenOptions, _flatten)


class SequenceLastOptions(Options):
    """See layers.sequence_last.SequenceLastLayer."""


def _sequence_last(options: SequenceLastOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    only_sequences(x)
    return Facts({OUT: replace(x, time=False)})


SEQUENCE_LAST = Kind(SequenceLastOptions, _sequence_last)
