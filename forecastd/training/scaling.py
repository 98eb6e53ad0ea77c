"""Scales that stay: found in the rows that train, or given, and set before training starts."""

from __future__ import annotations

import numpy as np
import torch

from forecastd.config import TrainConfig
from forecastd.data.moments import Moments, train_moments
from forecastd.data.statistics import DoubleArray
from forecastd.errors import ConfigError, DataError
from forecastd.features.scaling import FixedScale
from forecastd.network.expand import entering_of
from forecastd.network.kinds.entering import SequenceInputOptions
from forecastd.network.model import ForecastNetwork
from forecastd.training.plan import Material

NEEDS = {
    "zerocenter": ("mean",),
    "zscore": ("mean", "deviation"),
    "rescale-symmetric": ("min", "max"),
    "rescale-zero-one": ("min", "max"),
}
"""The numbers of the training part that each scaling is made of."""


def fit_scaling(network: ForecastNetwork, config: TrainConfig, material: Material) -> None:
    """Set the location and the spread of a network whose scale stays; others are left alone.

    Changes the buffers of `network.encoder.scale`. Numbers of the table sequence_input count
    instead of those of the data. Raises DataError for a column whose values do not differ, unless
    the scaling is the default, which leaves such a column unscaled but for its mean.
    """
    scale, kind = network.encoder.scale, network.spec.features.scaling
    if not isinstance(scale, FixedScale) or kind not in NEEDS:
        return
    entering = entering_of(config.network)
    numbers = {} if entering is None else entering.given()
    if wanting := set(NEEDS[kind]) - numbers.keys():
        columns = material.store.columns
        first = len(columns.targets) if config.task.supervised else 0
        moments = train_moments(material.store, material.parts, first)
        moments = moments.pooled(_groups(config, entering, numbers, scale.channels))
        spread = "deviation" in wanting or "max" in wanting or "min" in wanting
        if spread and _asked_for(config, entering):
            _require_change(moments, columns.channels[first:], kind)
        found = {name: _tiled(array, scale.channels) for name, array in _named(moments).items()}
        numbers = found | numbers
    location, spread_of = _scale(kind, numbers)
    if not (spread_of > 0).all():
        raise ConfigError([f"network.layers: {kind} by these numbers divides by zero"])
    with torch.no_grad():
        scale.location.copy_(torch.from_numpy(location))
        scale.spread.copy_(torch.from_numpy(spread_of))


def _groups(
    config: TrainConfig,
    entering: SequenceInputOptions | None,
    given: dict[str, DoubleArray],
    channels: int,
) -> int:
    """Return how many scales there are: one for all, for each channel, or for each element."""
    frame = () if entering is None else entering.frame
    dimension = config.features.dimension
    if entering is not None and entering.dimension != "auto":
        dimension = entering.dimension
    if dimension == "auto" and given and frame:  # those that are given tell
        apart = any(_groups_in(array, frame[-1]) > 1 for array in given.values())
        dimension = "element" if apart else "channel"
    if dimension == "all":
        return 1
    return frame[-1] if frame and dimension != "element" else channels


def _groups_in(numbers: DoubleArray, channels: int) -> int:
    """Return how many different rows of channels there are among the elements of a frame."""
    return len(np.unique(numbers.reshape(-1, channels), axis=0))


def _asked_for(config: TrainConfig, entering: SequenceInputOptions | None) -> bool:
    return entering is not None or config.features.scaling is not None


def _require_change(moments: Moments, names: tuple[str, ...], kind: str) -> None:
    """Raise DataError when a scale is of values that do not differ, naming the first column."""
    if not moments.constant.any():
        return
    column = names[int(np.argmax(moments.constant))]
    if len(moments.count) < len(names):  # a channel of frames, or all of them
        column = column.split("[")[0]
    message = f"column {column!r} has no two different values in the training part, so {kind} fails"
    raise DataError(message, hint="drop it from [data] past, or choose another scaling")


def _named(moments: Moments) -> dict[str, DoubleArray]:
    """Return the numbers that scales are made of; what does not differ is left as it is."""
    still = moments.constant
    deviation = np.where(still, 1.0, moments.deviation)
    low = np.where(still, moments.mean, moments.low)
    high = np.where(still, moments.mean + 1, moments.high)
    return {"mean": moments.mean, "deviation": deviation, "min": low, "max": high}


def _tiled(numbers: DoubleArray, channels: int) -> DoubleArray:
    return np.tile(numbers, channels // len(numbers))


def _scale(kind: str, numbers: dict[str, DoubleArray]) -> tuple[DoubleArray, DoubleArray]:
    """Return location and spread: a scaled value is (x - location) / spread."""
    if kind in {"zerocenter", "zscore"}:
        mean = numbers["mean"]
        return mean, numbers["deviation"] if kind == "zscore" else np.ones_like(mean)
    low, high = numbers["min"], numbers["max"]
    if kind == "rescale-zero-one":
        return low, high - low
    return (low + high) / 2, (high - low) / 2
