"""Recurrent layers in the arrays of each system.

| system | LSTM gates | GRU gates | biases |
|---|---|---|---|
| PyTorch | i, f, g, o | r, z, n | 2 |
| Keras | i, f, c, o | z, r, h | LSTM 1, GRU 2 where the reset gate comes after the product |
| MATLAB | i, f, g, o | r, z, h | 1; 2 stacked in "recurrent-bias-after-multiplication" |
| Wolfram | an array each | an array each | 1 |
| ONNX | i, o, f, c | z, r, h | 2 |

c, h and m are other letters for the candidate, g or n here. With one bias the recurrent one is zero
here, so the bias is learnt once (a sum of two would learn twice as fast).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from forecastd.errors import UserError
from forecastd.exchange.gates import Direction, Gates, join, no_bias, split, stack, unstack
from forecastd.exchange.parts import (
    Array,
    Arrays,
    Part,
    places_channels_last,
    places_column_major,
)

BEFORE, AFTER, WITH_BIAS = (
    "before-multiplication",
    "after-multiplication",
    "recurrent-bias-after-multiplication",
)
"""Where the reset gate of a GRU acts: on the state, on the product, on the product with a bias."""

Give = Callable[[Part, list[Direction]], Arrays]
Take = Callable[[Part, Mapping[str, Array]], list[Direction]]

_KERAS = {"lstm": "ifgo", "gru": "zrn"}
_MATLAB = {"lstm": "ifgo", "gru": "rzn"}
_ONNX = {"lstm": "iofg", "gru": "zrn"}
ONNX_PEEPHOLES = "iof"
WOLFRAM = {
    "lstm": {"i": "InputGate", "o": "OutputGate", "f": "ForgetGate", "g": "MemoryGate"},
    "gru": {"z": "InputGate", "r": "ResetGate", "n": "MemoryGate"},
}


def give(layout: str, part: Part, arrays: Mapping[str, Array]) -> Arrays:
    """Return a part's arrays as a layout has them. Raises UserError where it has none such."""
    require_known(layout, part)
    directions = split(part, arrays)
    places = _places(layout, part)
    if places is not None:
        for one in directions:
            one.input = {gate: weights[:, places] for gate, weights in one.input.items()}
    return _SYSTEMS[layout][0](part, directions)


def take(layout: str, part: Part, theirs: Mapping[str, Array], like: Mapping[str, Array]) -> Arrays:
    """Return our arrays of a part for those of a layout. Shapes were compared before."""
    require_known(layout, part)
    directions = _SYSTEMS[layout][1](part, theirs)
    places = _places(layout, part)
    for one in directions:
        if places is not None:
            back = np.argsort(places)
            one.input = {gate: weights[:, back] for gate, weights in one.input.items()}
        _settle_gru(layout, part, one)
    return join(part, directions, like)


def reset_of(part: Part) -> str:
    """Return where the reset gate of a GRU acts."""
    return str(part.option("reset", AFTER))


def require_known(layout: str, part: Part) -> None:
    """Raise UserError where a system has no layer that computes what this one does."""
    activations = (
        part.option("state_activation", "tanh"),
        part.option("gate_activation", "sigmoid"),
    )
    reason = None
    if layout in {"pytorch", "wolfram"} and activations != ("tanh", "sigmoid"):
        reason = f"the activations {activations[0]} and {activations[1]}"
    elif part.form == "peephole" and (layout != "onnx" or part.option("variant", "") != "gers"):
        reason = "these peepholes"
    elif part.form == "gru" and reset_of(part) not in _RESETS[layout]:
        reason = f"reset = {reset_of(part)!r}"
    if reason is not None:
        message = f"layer {part.name!r} ({part.kind}) has {reason}, which {layout} has not"
        raise UserError(message, hint="use another layout, or --layer for the other layers")


_RESETS = {
    "pytorch": {AFTER, WITH_BIAS},
    "keras": {BEFORE, AFTER, WITH_BIAS},
    "matlab": {BEFORE, AFTER, WITH_BIAS},
    "wolfram": {AFTER},
    "onnx": {BEFORE, AFTER, WITH_BIAS},
}


def _settle_gru(layout: str, part: Part, one: Direction) -> None:
    """Put both biases where our GRU of this kind has them; in place."""
    if part.form != "gru" or reset_of(part) == WITH_BIAS:
        return
    if reset_of(part) == AFTER and np.any(one.recurrent_bias["n"]):
        message = (
            f"the file of {layout} gives layer {part.name!r} a recurrent bias of the candidate,"
            f" which reset = {AFTER!r} has not"
        )
        raise UserError(message, hint=f"make the model with reset = {WITH_BIAS!r}")
    one.input_bias, one.recurrent_bias = one.bias, no_bias(one.bias)


def _places(layout: str, part: Part) -> Array | None:
    if not part.flattened:
        return None
    if layout == "matlab":
        return places_column_major(part.flattened)
    return places_channels_last(part.flattened) if layout == "keras" else None


def _order(table: Mapping[str, str], part: Part) -> str:
    return table["gru" if part.form == "gru" else "lstm"]


def _prefixes(part: Part) -> tuple[str, ...]:
    return ("forward/", "backward/") if part.form == "bilstm" else ("",)


def _give_pytorch(part: Part, directions: list[Direction]) -> Arrays:
    arrays: Arrays = {}
    order = "rzn" if part.form == "gru" else "ifgo"
    for end, one in zip(("", "_reverse"), directions, strict=False):
        arrays[f"weight_ih_l0{end}"] = stack(one.input, order)
        arrays[f"weight_hh_l0{end}"] = stack(one.recurrent, order)
        arrays[f"bias_ih_l0{end}"] = stack(one.input_bias, order)
        arrays[f"bias_hh_l0{end}"] = stack(one.recurrent_bias, order)
    return arrays


def _take_pytorch(part: Part, theirs: Mapping[str, Array]) -> list[Direction]:
    return split(part, theirs)


def _give_keras(part: Part, directions: list[Direction]) -> Arrays:
    order = _order(_KERAS, part)
    arrays: Arrays = {}
    for prefix, one in zip(_prefixes(part), directions, strict=True):
        arrays[f"{prefix}kernel"] = stack(one.input, order).T
        arrays[f"{prefix}recurrent_kernel"] = stack(one.recurrent, order).T
        if part.form == "gru" and reset_of(part) != BEFORE:
            both = [stack(one.input_bias, order), stack(one.recurrent_bias, order)]
            arrays[f"{prefix}bias"] = np.stack(both)
        else:
            arrays[f"{prefix}bias"] = stack(one.bias, order)
    return arrays


def _take_keras(part: Part, theirs: Mapping[str, Array]) -> list[Direction]:
    order = _order(_KERAS, part)
    found = []
    for prefix in _prefixes(part):
        bias = theirs[f"{prefix}bias"]
        first = unstack(bias if bias.ndim == 1 else bias[0], order)
        second = no_bias(first) if bias.ndim == 1 else unstack(bias[1], order)
        kernel = unstack(theirs[f"{prefix}kernel"].T, order)
        recurrent = unstack(theirs[f"{prefix}recurrent_kernel"].T, order)
        found.append(Direction(kernel, recurrent, first, second))
    return found


def _give_matlab(part: Part, directions: list[Direction]) -> Arrays:
    order = _order(_MATLAB, part)
    biases = [stack(one.bias, order) for one in directions]
    if part.form == "gru" and reset_of(part) == WITH_BIAS:
        biases = [
            stack(directions[0].input_bias, order),
            stack(directions[0].recurrent_bias, order),
        ]
    return {
        "InputWeights": np.concatenate([stack(one.input, order) for one in directions]),
        "RecurrentWeights": np.concatenate([stack(one.recurrent, order) for one in directions]),
        "Bias": np.concatenate(biases)[:, None],
    }


def _take_matlab(part: Part, theirs: Mapping[str, Array]) -> list[Direction]:
    order, count = _order(_MATLAB, part), len(_prefixes(part))
    bias = theirs["Bias"][:, 0]
    two = part.form == "gru" and reset_of(part) == WITH_BIAS
    biases = np.split(bias, 2 if two else count)
    found = []
    for number in range(count):
        first = unstack(biases[number], order)
        found.append(
            Direction(
                unstack(np.split(theirs["InputWeights"], count)[number], order),
                unstack(np.split(theirs["RecurrentWeights"], count)[number], order),
                first,
                unstack(biases[1], order) if two else no_bias(first),
            )
        )
    return found


def _give_wolfram(part: Part, directions: list[Direction]) -> Arrays:
    arrays: Arrays = {}
    names = WOLFRAM["gru" if part.form == "gru" else "lstm"]
    for prefix, one in zip(_prefixes(part), directions, strict=True):
        for gate, name in names.items():
            arrays[f"{prefix}{name}InputWeights"] = one.input[gate]
            arrays[f"{prefix}{name}StateWeights"] = one.recurrent[gate]
            arrays[f"{prefix}{name}Biases"] = one.bias[gate]
    return arrays


def _take_wolfram(part: Part, theirs: Mapping[str, Array]) -> list[Direction]:
    names = WOLFRAM["gru" if part.form == "gru" else "lstm"]
    found = []
    for prefix in _prefixes(part):

        def of(array: str, prefix: str = prefix) -> Gates:
            return {gate: theirs[f"{prefix}{name}{array}"] for gate, name in names.items()}

        biases = of("Biases")
        found.append(Direction(of("InputWeights"), of("StateWeights"), biases, no_bias(biases)))
    return found


def _give_onnx(part: Part, directions: list[Direction]) -> Arrays:
    order = _order(_ONNX, part)
    biases = [
        np.concatenate([stack(one.input_bias, order), stack(one.recurrent_bias, order)])
        for one in directions
    ]
    arrays = {
        "W": np.stack([stack(one.input, order) for one in directions]),
        "R": np.stack([stack(one.recurrent, order) for one in directions]),
        "B": np.stack(biases),
    }
    if part.form == "peephole":
        arrays["P"] = np.stack([stack(one.peephole, ONNX_PEEPHOLES) for one in directions])
    return arrays


def _take_onnx(part: Part, theirs: Mapping[str, Array]) -> list[Direction]:
    order = _order(_ONNX, part)
    found = []
    for number in range(len(_prefixes(part))):
        first, second = np.split(theirs["B"][number], 2)
        weights = unstack(theirs["W"][number], order), unstack(theirs["R"][number], order)
        biases = unstack(first, order), unstack(second, order)
        peephole = unstack(theirs["P"][number], ONNX_PEEPHOLES) if "P" in theirs else {}
        found.append(Direction(*weights, *biases, peephole))
    return found


_SYSTEMS: dict[str, tuple[Give, Take]] = {
    "pytorch": (_give_pytorch, _take_pytorch),
    "keras": (_give_keras, _take_keras),
    "matlab": (_give_matlab, _take_matlab),
    "wolfram": (_give_wolfram, _take_wolfram),
    "onnx": (_give_onnx, _take_onnx),
}
