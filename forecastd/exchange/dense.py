"""Linear maps, convolutions, tables and norms in the arrays of each system.

| array | PyTorch | Keras | MATLAB | Wolfram | ONNX |
|---|---|---|---|---|---|
| linear | out x in | in x out | out x in | out x in | out x in (Gemm, transB) |
| convolution | N, C, space | space, C, N | space, C, N | N, C, space | N, C, space |
| table of D numbers | V x D | V x D | D x V | V x D | V x D |

Biases are vectors; in MATLAB columns, and 1 x 1 x N after a convolution of pictures. What was a
frame is flattened with channels first by PyTorch, Wolfram and ONNX, as here; with channels last by
Keras; and in column-major order, so down the columns of the picture, by MATLAB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from forecastd.errors import UserError
from forecastd.exchange.parts import (
    Array,
    Arrays,
    Part,
    places_channels_last,
    places_column_major,
)


class Names(NamedTuple):
    """What a system calls the arrays of a form, by ours; in the order of `ours`."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]


_PAIR = ("weight", "bias")
_NORM = ("scale", "offset")
_STATISTICS = ("scale", "offset", "mean", "variance")
_NAMES: dict[str, dict[str, Names]] = {
    "pytorch": {
        "layer_norm": Names(_NORM, _PAIR),
        "batch_norm": Names(_STATISTICS, (*_PAIR, "running_mean", "running_var")),
    },
    "keras": {
        "linear": Names(_PAIR, ("kernel", "bias")),
        "convolution": Names(_PAIR, ("kernel", "bias")),
        "embedding": Names(("weight",), ("embeddings",)),
        "layer_norm": Names(_NORM, ("gamma", "beta")),
        "batch_norm": Names(_STATISTICS, ("gamma", "beta", "moving_mean", "moving_variance")),
    },
    "matlab": {
        "linear": Names(_PAIR, ("Weights", "Bias")),
        "convolution": Names(_PAIR, ("Weights", "Bias")),
        "embedding": Names(("weight",), ("Weights",)),
        "layer_norm": Names(_NORM, ("Scale", "Offset")),
        "batch_norm": Names(_STATISTICS, ("Scale", "Offset", "TrainedMean", "TrainedVariance")),
        "projected": Names(
            ("weight_ih", "weight_hh", "bias", "input_projector", "output_projector"),
            ("InputWeights", "RecurrentWeights", "Bias", "InputProjector", "OutputProjector"),
        ),
    },
    "wolfram": {
        "linear": Names(_PAIR, ("Weights", "Biases")),
        "convolution": Names(_PAIR, ("Weights", "Biases")),
        "embedding": Names(("weight",), ("Weights",)),
        "layer_norm": Names(_NORM, ("Scaling", "Biases")),
        "batch_norm": Names(_STATISTICS, ("Scaling", "Biases", "MovingMean", "MovingVariance")),
    },
    "onnx": {
        "linear": Names(_PAIR, ("W", "B")),
        "convolution": Names(_PAIR, ("W", "B")),
        "embedding": Names(("weight",), ("data",)),
        "layer_norm": Names(_NORM, ("Scale", "B")),
        "batch_norm": Names(_STATISTICS, ("scale", "B", "input_mean", "input_var")),
    },
}


def give(layout: str, part: Part, arrays: Mapping[str, Array]) -> Arrays:
    """Return a part's arrays as a layout has them. Raises UserError where it has none such."""
    require_known(layout, part)
    names = _names(layout, part, arrays)
    return {names[name]: _shaped(layout, part, name, array) for name, array in arrays.items()}


def take(layout: str, part: Part, theirs: Mapping[str, Array], like: Mapping[str, Array]) -> Arrays:
    """Return our arrays of a part for those of a layout. Shapes were compared before."""
    names = _names(layout, part, like)
    return {
        name: _restored(layout, part, name, theirs[names[name]], array.shape)
        for name, array in like.items()
    }


def _names(layout: str, part: Part, arrays: Mapping[str, Array]) -> dict[str, str]:
    known = _NAMES[layout].get(part.form)
    table = dict(zip(known.ours, known.theirs, strict=True)) if known else {}
    return {name: table.get(name, name) for name in arrays}


def require_known(layout: str, part: Part) -> None:
    """Raise UserError where a system has no such layer."""
    if part.form == "projected" and part.form not in _NAMES[layout]:
        message = f"layer {part.name!r} ({part.kind}) has projectors, which {layout} has not"
        raise UserError(message, hint="use the layout matlab, or --layer for the other layers")


def _shaped(layout: str, part: Part, name: str, array: Array) -> Array:
    """Return one of our arrays in the axes of a layout."""
    axis = _input_axis(part, name)
    if axis is not None:
        array = array.take(_order(layout, part.flattened), axis)
    axes = _AXES.get((layout, part.form, name))
    if axes is not None:
        return axes[0](array)
    if layout == "matlab" and part.form != "numbers":
        return _matlab_vector(part, array)
    return array


def _restored(layout: str, part: Part, name: str, array: Array, shape: tuple[int, ...]) -> Array:
    axes = _AXES.get((layout, part.form, name))
    array = (axes[1](array) if axes is not None else array).reshape(shape)
    axis = _input_axis(part, name)
    return array if axis is None else array.take(np.argsort(_order(layout, part.flattened)), axis)


def _input_axis(part: Part, name: str) -> int | None:
    """Return the axis of an array along which lie the numbers of a frame that was flattened."""
    if not part.flattened:
        return None
    if part.form in {"layer_norm", "batch_norm"}:
        return 0
    return _INPUT_AXES.get((part.form, name))


_INPUT_AXES = {
    ("linear", "weight"): 1,
    ("convolution", "weight"): 1,
    ("projected", "input_projector"): 0,
}
"""For arrays that say something of each number that enters."""


def _order(layout: str, frame: tuple[int, ...]) -> Array:
    if layout == "matlab":
        return places_column_major(frame)
    if layout == "keras":
        return places_channels_last(frame)
    return np.arange(int(np.prod(frame)))


def _matlab_vector(part: Part, array: Array) -> Array:
    """Return a bias or a number per channel in the axes it has in MATLAB: space, then channels."""
    if array.ndim != 1:
        return array
    space = len(part.entering) - 1
    if part.form in {"convolution", "batch_norm"} and space > 0:
        return array.reshape((1,) * space + (-1,))
    return array.reshape(1, -1) if part.form == "convolution" else array[:, None]


def _transposed(array: Array) -> Array:
    return array.T


def _space_first(kernel: Array) -> Array:
    return np.moveaxis(kernel, (0, 1), (-1, -2))


def _space_last(kernel: Array) -> Array:
    return np.moveaxis(kernel, (-1, -2), (0, 1))


_Change = tuple[Callable[[Array], Array], Callable[[Array], Array]]
_AXES: dict[tuple[str, str, str], _Change] = {
    ("keras", "linear", "weight"): (_transposed, _transposed),
    ("keras", "convolution", "weight"): (_space_first, _space_last),
    ("matlab", "convolution", "weight"): (_space_first, _space_last),
    ("matlab", "embedding", "weight"): (_transposed, _transposed),
}
