"""Kinds of layers that normalise what passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from forecastd.network.kinds.contract import IN, OUT, Facts, Kind, Options, Shape


class BatchNormOptions(Options):
    """See layers.batch_norm.BatchNormLayer."""

    epsilon: float = Field(1e-5, gt=0)
    decay: float = Field(0.1, ge=0, le=1)
    statistics: Literal["population", "moving"] = "population"


def _batch_norm(options: BatchNormOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    names = ("scale", "offset", "mean", "variance")
    fixed = frozenset({"mean", "variance"})
    return Facts({OUT: x}, dict.fromkeys(names, x.sizes[:1]), fixed=fixed)


BATCH_NORM = Kind(BatchNormOptions, _batch_norm)


class LayerNormOptions(Options):
    """See layers.layer_norm.LayerNormLayer."""

    epsilon: float = Field(1e-5, gt=0)


def _layer_norm(options: LayerNormOptions, inputs: Mapping[str, Shape]) -> Facts:
    x = inputs[IN]
    return Facts({OUT: x}, dict.fromkeys(("scale", "offset"), x.sizes[:1]))


LAYER_NORM = Kind(LayerNormOptions, _layer_norm)
