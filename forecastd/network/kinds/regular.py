"""Kinds of layers against overfitting."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from forecastd.network.kinds.contract import IN, OUT, Facts, Kind, Options, Shape


class DropoutOptions(Options):
    """See layers.dropout.DropoutLayer."""

    share: float = Field(0.5, ge=0, le=1)


def _dropout(options: DropoutOptions, inputs: Mapping[str, Shape]) -> Facts:
    return Facts({OUT: inputs[IN]})


DROPOUT = Kind(DropoutOptions, _dropout)
