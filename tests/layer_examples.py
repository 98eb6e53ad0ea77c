"""Examples of every kind of layer, on which the one conformance suite over layers runs.

To add a kind: a line here. Options that take another way through the code deserve one each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from forecastd.network.kinds.shaping import MINI_BATCH_SIZE
from forecastd.network.spec import LayerSpec


class Example(NamedTuple):
    """A layer with options, fed with numbers of some sizes at each step.

    layers: instead of `options`, a small network in which the kind stands, for what cannot stand
    alone, as an unfolding without a folding; the last one is what is compared. codes: what enters
    are whole numbers from 0 to below this, as they enter an embedding; 0: any numbers.
    """

    sizes: tuple[int, ...]
    options: dict[str, Any] = {}
    layers: tuple[LayerSpec, ...] = ()
    codes: int = 0


OTHERWISE = {"state_activation": "softsign", "gate_activation": "hard-sigmoid"}
DROPPED = {"variational_input": 0.3, "variational_state": 0.3, "state_update": 0.2}
BEGUN = {"hidden_state": [0.5, -0.5], "cell_state": [1.0, 2.0]}
FED = (
    LayerSpec("first", "lstm", {"hidden": 3, "output": "last", "state_outputs": True}),
    LayerSpec(
        "second",
        "lstm",
        {"hidden": 3, "state_inputs": True, "state_outputs": True},
        {"in": "input", "hidden": "first/hidden", "cell": "first/cell"},
    ),
)
"""An LSTM that begins where another ended."""

INCLUDED = {"padding_value": "symmetric-include-edge"}
EXCLUDED = {"padding_value": "symmetric-exclude-edge"}
FRAMES = (
    LayerSpec("fold", "folding"),
    LayerSpec("conv", "conv1d", {"filters": 2, "size": 2}),
    LayerSpec("norm", "batch_norm"),
    LayerSpec("unfold", "unfolding", {}, {"in": "norm", MINI_BATCH_SIZE: "fold/mini_batch_size"}),
    LayerSpec("flat", "flatten"),
    LayerSpec("lstm", "lstm", {"hidden": 2}),
)
"""Frames one by one, then a recurrence."""


def joined(kind: str) -> tuple[LayerSpec, ...]:
    """Return two ways of one input that meet again."""
    ways = {"quick": "input", "slow": "slow"}
    return (
        LayerSpec("slow", "conv1d", {"filters": 2, "size": 2, "padding": "causal"}),
        LayerSpec("join", kind, {}, ways),
    )


EXAMPLES: dict[str, list[Example]] = {
    "lstm": [
        Example((3,), {"hidden": 4}),
        Example((3,), {"hidden": 2, "output": "last", "state_outputs": True, **BEGUN}),
        Example((2,), {"hidden": 3, **OTHERWISE, "dropout": {"variational_weights": 0.4}}),
        Example((3,), {"hidden": 4, "dropout": {**DROPPED, "untied": True}}),
        Example((3,), layers=FED),
    ],
    "bilstm": [
        Example((3,), {"hidden": 4, "dropout": DROPPED}),
        Example((3,), {"hidden": 4, "output": "last"}),
    ],
    "gru": [
        Example((3,), {"hidden": 4}),
        Example((3,), {"hidden": 4, "output": "last", "reset": "before-multiplication"}),
        Example((2,), {"hidden": 3, "reset": "recurrent-bias-after-multiplication", **OTHERWISE}),
        Example((3,), {"hidden": 2, "dropout": {**DROPPED, "on": "contribution"}}),
    ],
    "peephole_lstm": [
        Example((3,), {"hidden": 4, "dropout": DROPPED}),
        Example((3,), {"hidden": 2, "variant": "input-node", "output": "last"}),
    ],
    "projected_lstm": [
        Example((5,), {"hidden": 4, "input_projector": 3, "output_projector": 2}),
    ],
    "dropout": [Example((3,), {"share": 0.5}), Example((3, 2), {"share": 0.5})],
    "fully_connected": [
        Example((3,), {"size": 2}),
        Example((3,), {"size": 2, "weight_initializer": "he", "learn_rate_factors": {"bias": 2}}),
    ],
    "relu": [Example((3,)), Example((2, 3))],
    "softmax": [Example((3,)), Example((3, 2))],
    "batch_norm": [Example((3,)), Example((2, 3, 2), {"statistics": "moving", "epsilon": 0.1})],
    "layer_norm": [Example((3,)), Example((2, 3, 2))],
    "conv1d": [
        Example((2,), {"filters": 3, "size": 3, "padding": "causal", "dilation": 2}),
        Example((2,), {"filters": 3, "size": 2, "padding": [1, 0], "padding_value": 0.5}),
        Example((2,), {"filters": 3, "size": 1}),
        Example((2,), {"filters": 3, "size": 3, "padding": "causal", "stride": 2}),
        Example((2,), {"filters": 3, "size": 4, "padding": "same", "stride": 3}),
        Example((2,), {"filters": 3, "size": 3, "padding": [1, 3], "padding_value": "replicate"}),
        Example((2,), {"filters": 3, "size": 5, "padding": 2, **INCLUDED}),
        Example((2,), {"filters": 3, "size": 4, "padding": "same", **EXCLUDED}),
        Example((2, 5), {"filters": 3, "size": 2, "dilation": 2, "padding": [0, 1]}),
    ],
    "max_pooling1d": [
        Example((2,), {"size": 3}),
        Example((2,), {"size": 3, "stride": 2, "padding": "same"}),
        Example((2, 6), {"size": 2, "stride": 2}),
    ],
    "average_pooling1d": [
        Example((2,), {"size": 3, "padding": [2, 1]}),
        Example((2,), {"size": 4, "stride": 3, "padding": "same"}),
        Example((2, 6), {"size": 3, "padding": 1}),
    ],
    "global_max_pooling1d": [Example((3,)), Example((3, 4))],
    "global_average_pooling1d": [Example((3,)), Example((3, 4))],
    "conv2d": [
        Example((2, 4, 5), {"filters": 3, "size": [2, 3], "stride": [2, 1], "padding": "same"}),
        Example((1, 4, 4), {"filters": 2, "size": 3, "padding": [1, 0, 2, 1], **INCLUDED}),
    ],
    "folding": [Example((2, 3), layers=FRAMES)],
    "unfolding": [Example((2, 3), layers=FRAMES[:4])],
    "flatten": [Example((2, 3)), Example((3,))],
    "word_embedding": [
        Example((1,), {"dimension": 3, "words": 4}, codes=7),
        Example((1,), {"dimension": 2, "words": 9, "weight_initializer": "ones"}, codes=3),
    ],
    "characters": [
        Example((1,), {"alphabet": [{"first": 0, "last": 9}]}, codes=9),
        Example(
            (1,),
            {"alphabet": [{"first": 2, "last": 3}, {"group": "other"}], "form": "unit-vector"},
            codes=5,
        ),
    ],
    "addition": [Example((2,), layers=joined("addition"))],
    "concatenation": [Example((2,), layers=joined("concatenation"))],
    "sequence_last": [Example((3,)), Example((2, 3))],
}
"""By kind."""
