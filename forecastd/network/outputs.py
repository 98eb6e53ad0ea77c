"""What a network says, as data: which head a task has, and which losses a head can learn by.

Nothing here imports torch, so that a config is checked before any data is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from forecastd.errors import ConfigError, SpecError
from forecastd.network.kinds.contract import Shape
from forecastd.network.spec import HeadSpec, LayerSpec
from forecastd.series import Signature

SUPERVISED = {"responses": "regression", "classes": "classification"}
"""The heads that say what the target is now, and the task of each."""
DISTRIBUTIONS = ("gaussian", "student_t", "negative_binomial")
"""The heads that give a whole distribution of each value, and their quantiles as the forecast."""
LOSSES = {
    "point": ("mae", "mse", "half-mse", "huber"),
    "quantile": ("quantile",),
    "gaussian": ("nll",),
    "student_t": ("nll",),
    "negative_binomial": ("nll",),
    "responses": ("half-mse", "mse", "mae", "huber"),
    "classes": ("cross-entropy",),
}
"""By head the losses that it can learn by; the first is what "auto" means."""

SPREAD_MIN = 1e-3
"""The least deviation of a distribution, in scaled units: a constant series has one too."""

_LAST_MAPS = {"classes": ("fully_connected", "softmax"), "responses": ("fully_connected",)}
"""Layers that, as the last and of the right width, give what the head would map to."""


def require_loss(head: str, loss: str) -> str:
    """Return the name of a head's loss, "auto" resolved. Raises ConfigError where it cannot be."""
    known = LOSSES[head]
    if loss == "auto":
        return known[0]
    if loss not in known:
        problem = f"train.loss: {loss} cannot train the head {head}; it takes {', '.join(known)}"
        raise ConfigError([problem])
    return loss


def head_kind(task: str, forecast_head: str) -> str:
    """Return the kind of head of a task. forecast_head: that of a forecast."""
    return next((head for head, of in SUPERVISED.items() if of == task), forecast_head)


def head_of_forecast(
    kind: str, signature: Signature, lags: int, layers: Sequence[LayerSpec], output: Shape
) -> HeadSpec:
    """Return the head of a forecast, a point or a distribution. output: what the last layer gives.

    A point has a linear map of its own unless the network ends with a fully connected layer that
    gives a number for each step ahead.
    """
    maps = bool(layers) and layers[-1].kind == "fully_connected"
    maps = maps and kind == "point" and output.width == signature.horizon
    return HeadSpec(kind, signature.horizon, signature.quantiles, lags, linear=not maps)


def head_of_task(signature: Signature, layers: Sequence[LayerSpec], output: Shape) -> HeadSpec:
    """Return the head of a regression or a classification. output: what the last layer gives.

    It has a linear map of its own unless the network ends with one: a fully connected layer, or for
    classes a softmax, that gives as many numbers as there are responses or classes. Raises
    SpecError where it ends with a softmax that does not.
    """
    kind = head_kind(signature.task, "")
    outputs = len(signature.classes) if kind == "classes" else len(signature.targets)
    last = layers[-1] if layers else LayerSpec("", "")
    if kind == "classes" and last.kind == "softmax" and output.width != outputs:
        message = f"layer {last.name!r} (softmax) gives {output.width} shares of {outputs} classes"
        hint = f"give the fully_connected layer before it the size {outputs}"
        raise SpecError(message, hint=hint)
    maps = last.kind in _LAST_MAPS[kind] and output.width == outputs
    return HeadSpec(kind, 1, (), 0, outputs, not maps)
