"""Recurrent weights gate by gate, from which every layout stacks its own arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from forecastd.exchange.parts import Array, Arrays, Part

LSTM_GATES = "ifgo"
"""The order of the rows here, as in torch.nn.LSTM: input, forget, candidate, output."""
GRU_GATES = "rzn"
"""The order of the rows here, as in torch.nn.GRU: reset, update, candidate."""
PEEPHOLE_GATES = "ifo"

_SHORT = {"weight_ih_l0": "weight_ih", "weight_hh_l0": "weight_hh", "bias_ih_l0": "bias"}
"""What layers without a module of torch call theirs."""

Gates = dict[str, Array]


@dataclass
class Direction:
    """What one direction learns, by gate.

    input [H, C], recurrent [H, H], input_bias and recurrent_bias [H], peephole [H] by letter.
    """

    input: Gates
    recurrent: Gates
    input_bias: Gates
    recurrent_bias: Gates
    peephole: Gates = field(default_factory=dict)

    @property
    def bias(self) -> Gates:
        """The sum of both biases, for systems that have one."""
        return {gate: self.input_bias[gate] + self.recurrent_bias[gate] for gate in self.input_bias}


def order_of(part: Part) -> str:
    """Return the gates of a part in the order of its rows."""
    return GRU_GATES if part.form == "gru" else LSTM_GATES


def split(part: Part, arrays: Mapping[str, Array]) -> list[Direction]:
    """Return what each direction of a part learns; forward first."""
    order = order_of(part)
    arrays = {
        **{full: arrays[short] for full, short in _SHORT.items() if short in arrays},
        **arrays,
    }
    directions = []
    for end in ("", "_reverse") if part.form == "bilstm" else ("",):
        recurrent = arrays[f"weight_hh_l0{end}"]
        zeros = np.zeros(len(recurrent), recurrent.dtype)
        weights = unstack(arrays[f"weight_ih_l0{end}"], order), unstack(recurrent, order)
        biases = (arrays.get(f"{name}_l0{end}", zeros) for name in ("bias_ih", "bias_hh"))
        first, second = (unstack(bias, order) for bias in biases)
        rows = arrays.get("peephole", zeros[:0]).reshape(-1)
        peephole = unstack(rows, PEEPHOLE_GATES) if len(rows) else {}
        directions.append(Direction(*weights, first, second, peephole))
    return directions


def join(part: Part, directions: Sequence[Direction], like: Mapping[str, Array]) -> Arrays:
    """Return the arrays that `split` reads; those that are not in `like` are left out."""
    order = order_of(part)
    arrays: Arrays = {}
    for end, one in zip(("", "_reverse"), directions, strict=False):
        arrays[f"weight_ih_l0{end}"] = stack(one.input, order)
        arrays[f"weight_hh_l0{end}"] = stack(one.recurrent, order)
        both = f"bias_hh_l0{end}" in like
        arrays[f"bias_ih_l0{end}"] = stack(one.input_bias if both else one.bias, order)
        arrays[f"bias_hh_l0{end}"] = stack(one.recurrent_bias, order)
        if one.peephole:
            arrays["peephole"] = stack(one.peephole, PEEPHOLE_GATES)
    arrays |= {short: arrays[full] for full, short in _SHORT.items() if full in arrays}
    return {name: array.reshape(like[name].shape) for name, array in arrays.items() if name in like}


def stack(gates: Gates, order: str) -> Array:
    """Return the gates one below the other."""
    return np.concatenate([gates[gate] for gate in order])


def unstack(array: Array, order: str) -> Gates:
    """Return the gates of a stack."""
    return dict(zip(order, np.split(array, len(order)), strict=True))


def no_bias(gates: Gates) -> Gates:
    """Return zeros in the form of some biases."""
    return {gate: np.zeros_like(bias) for gate, bias in gates.items()}
