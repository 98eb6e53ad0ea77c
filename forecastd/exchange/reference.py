"""What other systems compute from their own arrays, in plain NumPy; it knows nothing of our layers.

Each function slices the arrays as the system stacks them and follows the equations of its own
documentation. It is what an import is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from forecastd.exchange.parts import Array

Activation = Callable[[Array], Array]


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


ACTIVATIONS: dict[str, Activation] = {
    "tanh": np.tanh,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "hard-sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}


def run_lstm(
    layout: str,
    arrays: Mapping[str, Array],
    xs: Array,
    activations: tuple[str, str],
    start: tuple[Array, ...] = (),
) -> Array:
    """Return h [B, T, H] for xs [B, T, C].

    activations: of state and gates, by the name they have here. start: h and c [B, H] before the
    first step; zeros where left out.
    """
    state_act, gate_act = (ACTIVATIONS[name] for name in activations)
    gates, hidden = _LSTM[layout], _units(arrays)
    zeros = np.zeros((len(xs), hidden), xs.dtype)
    h, c = start or (zeros, zeros)
    outputs = []
    for t in range(xs.shape[1]):
        a = gates(arrays, xs[:, t], h)
        p_i, p_o, p_f = np.split(arrays["P"][0], 3) if "P" in arrays else (0.0, 0.0, 0.0)
        i, f = gate_act(a["i"] + p_i * c), gate_act(a["f"] + p_f * c)
        c = f * c + i * state_act(a["g"])
        h = gate_act(a["o"] + p_o * c) * state_act(c)
        outputs.append(h)
    return np.stack(outputs, 1)


def run_gru(
    layout: str,
    arrays: Mapping[str, Array],
    xs: Array,
    how: tuple[str, str, str],
    start: tuple[Array, ...] = (),
) -> Array:
    """Return h [B, T, H] for xs [B, T, C].

    how: activations of state and gates, and `reset`, as in our GRU layer. start: h [B, H] before
    the first step; zeros where left out.
    """
    state_act, gate_act, reset = ACTIVATIONS[how[0]], ACTIVATIONS[how[1]], how[2]
    split, hidden = _GRU[layout], _units(arrays)
    h = start[0] if start else np.zeros((len(xs), hidden), xs.dtype)
    outputs = []
    for t in range(xs.shape[1]):
        of_x, weights, bias = split(arrays, xs[:, t])
        z = gate_act(of_x["z"] + h @ weights["z"].T + bias["z"])
        r = gate_act(of_x["r"] + h @ weights["r"].T + bias["r"])
        if reset == "before-multiplication":
            inner = (r * h) @ weights["n"].T + bias["n"]
        else:
            inner = r * (h @ weights["n"].T + bias["n"])
        h = (1 - z) * state_act(of_x["n"] + inner) + z * h
        outputs.append(h)
    return np.stack(outputs, 1)


def run_linear(layout: str, arrays: Mapping[str, Array], xs: Array) -> Array:
    """Return the map of xs [..., in]."""
    if layout == "keras":
        of_keras: Array = xs @ arrays["kernel"] + arrays.get("bias", 0)
        return of_keras
    names = {"pytorch": ("weight", "bias"), "onnx": ("W", "B")}
    weight, bias = names.get(layout, ("Weights", "Bias" if layout == "matlab" else "Biases"))
    mapped: Array = xs @ arrays[weight].T + np.ravel(arrays.get(bias, 0))
    return mapped


def direction(layout: str, arrays: Mapping[str, Array], number: int) -> dict[str, Array]:
    """Return the arrays of one direction of a bidirectional LSTM: 0 forward, 1 backward."""
    if layout == "onnx":
        return {name: array[number : number + 1] for name, array in arrays.items()}
    if layout == "matlab":
        return {name: np.split(array, 2)[number] for name, array in arrays.items()}
    if layout == "pytorch":
        end = "_reverse"
        if number == 0:
            return {name: array for name, array in arrays.items() if not name.endswith(end)}
        kept = {name: array for name, array in arrays.items() if name.endswith(end)}
        return {name.removesuffix(end): array for name, array in kept.items()}
    prefix = ("forward/", "backward/")[number]
    mine = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): array for name, array in mine.items()}


def _units(arrays: Mapping[str, Array]) -> int:
    if "recurrent_kernel" in arrays:
        return len(arrays["recurrent_kernel"])
    names = ("weight_hh_l0", "RecurrentWeights", "R", "MemoryGateStateWeights")
    return int(next(arrays[name] for name in names if name in arrays).shape[-1])


def _pytorch_lstm(w: Mapping[str, Array], x: Array, h: Array) -> dict[str, Array]:
    a = x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
    i, f, g, o = np.split(a, 4, 1)
    return {"i": i, "f": f, "g": g, "o": o}


def _keras_lstm(w: Mapping[str, Array], x: Array, h: Array) -> dict[str, Array]:
    i, f, c, o = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 4, 1)
    return {"i": i, "f": f, "g": c, "o": o}


def _matlab_lstm(w: Mapping[str, Array], x: Array, h: Array) -> dict[str, Array]:
    columns = w["InputWeights"] @ x.T + w["RecurrentWeights"] @ h.T + w["Bias"]
    n = h.shape[1]
    i, f, g, o = (columns[k * n : (k + 1) * n].T for k in range(4))
    return {"i": i, "f": f, "g": g, "o": o}


def _wolfram_lstm(w: Mapping[str, Array], x: Array, h: Array) -> dict[str, Array]:
    def gate(name: str) -> Array:
        inner: Array = x @ w[f"{name}GateInputWeights"].T + h @ w[f"{name}GateStateWeights"].T
        return inner + w[f"{name}GateBiases"]

    return {"i": gate("Input"), "o": gate("Output"), "f": gate("Forget"), "g": gate("Memory")}


def _onnx_lstm(w: Mapping[str, Array], x: Array, h: Array) -> dict[str, Array]:
    of_input, of_state = np.split(w["B"][0], 2)
    i, o, f, c = np.split(x @ w["W"][0].T + h @ w["R"][0].T + of_input + of_state, 4, 1)
    return {"i": i, "o": o, "f": f, "g": c}


_LSTM: dict[str, Callable[[Mapping[str, Array], Array, Array], dict[str, Array]]] = {
    "pytorch": _pytorch_lstm,
    "keras": _keras_lstm,
    "matlab": _matlab_lstm,
    "wolfram": _wolfram_lstm,
    "onnx": _onnx_lstm,
}

_Gru = tuple[dict[str, Array], dict[str, Array], dict[str, Array]]
"""What comes from the input with its bias, the recurrent weights, and the recurrent bias."""


def _pytorch_gru(w: Mapping[str, Array], x: Array) -> _Gru:
    def named(array: Array, axis: int) -> dict[str, Array]:
        r, z, n = np.split(array, 3, axis)
        return {"r": r, "z": z, "n": n}

    of_x = named(x @ w["weight_ih_l0"].T + w["bias_ih_l0"], 1)
    return of_x, named(w["weight_hh_l0"], 0), named(w["bias_hh_l0"], 0)


def _keras_gru(w: Mapping[str, Array], x: Array) -> _Gru:
    def named(array: Array) -> dict[str, Array]:
        z, r, h = np.split(array, 3, -1)
        return {"z": z, "r": r, "n": h}

    bias = w["bias"]
    of_input, of_state = (bias, np.zeros_like(bias)) if bias.ndim == 1 else bias
    weights = {gate: kernel.T for gate, kernel in named(w["recurrent_kernel"]).items()}
    return named(x @ w["kernel"] + of_input), weights, named(of_state)


def _matlab_gru(w: Mapping[str, Array], x: Array) -> _Gru:
    n = w["RecurrentWeights"].shape[1]

    def named(column: Array) -> dict[str, Array]:
        return {"r": column[:n], "z": column[n : 2 * n], "n": column[2 * n :]}

    bias = w["Bias"][:, 0]
    of_state = bias[3 * n :] if len(bias) == 6 * n else np.zeros(3 * n, bias.dtype)
    of_x = named(w["InputWeights"] @ x.T + bias[: 3 * n, None])
    return {g: v.T for g, v in of_x.items()}, named(w["RecurrentWeights"]), named(of_state)


def _wolfram_gru(w: Mapping[str, Array], x: Array) -> _Gru:
    names = {"z": "Input", "r": "Reset", "n": "Memory"}
    of_x = {g: x @ w[f"{n}GateInputWeights"].T + w[f"{n}GateBiases"] for g, n in names.items()}
    weights = {g: w[f"{n}GateStateWeights"] for g, n in names.items()}
    return of_x, weights, {g: np.zeros(len(weights[g]), x.dtype) for g in names}


def _onnx_gru(w: Mapping[str, Array], x: Array) -> _Gru:
    def named(array: Array, axis: int) -> dict[str, Array]:
        z, r, h = np.split(array, 3, axis)
        return {"z": z, "r": r, "n": h}

    of_input, of_state = np.split(w["B"][0], 2)
    return named(x @ w["W"][0].T + of_input, 1), named(w["R"][0], 0), named(of_state, 0)


_GRU: dict[str, Callable[[Mapping[str, Array], Array], _Gru]] = {
    "pytorch": _pytorch_gru,
    "keras": _keras_gru,
    "matlab": _matlab_gru,
    "wolfram": _wolfram_gru,
    "onnx": _onnx_gru,
}
