"""Kinds of layers that remember through a recurrence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from forecastd.network.kinds.contract import (
    IN,
    OUT,
    Facts,
    Kind,
    Options,
    Shape,
    Shapes,
    Whole,
    only_sequences,
    only_vectors,
)

Initializer = Literal["glorot", "he", "orthogonal", "narrow-normal", "zeros", "ones"]
BiasInitializer = Literal["unit-forget-gate", "narrow-normal", "ones", "zeros"]
StateActivation = Literal["tanh", "softsign", "relu"]
GateActivation = Literal["sigmoid", "hard-sigmoid"]

ONLY_IN_TRAINING = frozenset({
    "input_initializer", "recurrent_initializer", "bias_initializer",
    "learn_rate_factors", "l2_factors", "dropout",
})  # fmt: skip
"""Options that change nothing once the weights are there."""

Share = Field(0.0, ge=0, lt=1)
"""A probability of being zeroed; what is left is scaled by 1 / (1 - share)."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, int | float) else value


Factors = Annotated[
    list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(_listed)
]
"""One number, or one for each gate in the order in which they are stacked."""


class LearnRateFactors(Options):
    """What multiplies the learning rate of input weights, recurrent weights and bias."""

    input: Factors = [1.0]
    recurrent: Factors = [1.0]
    bias: Factors = [1.0]


class PenaltyFactors(Options):
    """What multiplies the L2 penalty of input weights, recurrent weights and bias."""

    input: Factors = [1.0]
    recurrent: Factors = [1.0]
    bias: Factors = [0.0]


class Dropout(Options):
    """Dropout within a recurrence, in training only; methods can be combined.

    variational_weights: of the recurrent weights, one mask a pass (Merity et al. 2017).
    variational_input, variational_state: of what enters and of the hidden state in the sums of the
    gates, one mask a sequence (Gal & Ghahramani 2016). state_update: of what is added to the cell,
    a fresh mask each step (Semeniuta et al. 2016). untied: a mask of its own for each gate. on: the
    mask is of what enters, or of the contribution made of it.
    """

    variational_weights: float = Share
    variational_input: float = Share
    variational_state: float = Share
    state_update: float = Share
    untied: bool = False
    on: Literal["input", "contribution"] = "input"


def _table(value: object) -> object:
    """Take a number for the method that is chosen automatically."""
    return {"variational_weights": value} if isinstance(value, int | float) else value


class RecurrentOptions(Options):
    """What all recurrences have. See layers.recurrent.RecurrentLayer.

    hidden_state: what a series begins with, and goes back to when it is reset; empty: zeros. Class
    variables: gates are the names of the parts that rows of the weights are stacked of; directions,
    how many times, one after the other.
    """

    gates: ClassVar[tuple[str, ...]] = ()
    directions: ClassVar[int] = 1

    hidden: int = Whole
    output: Literal["sequence", "last"] = "sequence"
    state_activation: StateActivation = "tanh"
    gate_activation: GateActivation = "sigmoid"
    input_initializer: Initializer = "glorot"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: BiasInitializer = "zeros"
    learn_rate_factors: LearnRateFactors = LearnRateFactors()
    l2_factors: PenaltyFactors = PenaltyFactors()
    dropout: Annotated[Dropout, BeforeValidator(_table)] = Dropout()
    hidden_state: list[float] = []

    @property
    def first_states(self) -> tuple[list[float], ...]:
        """What the fields of the state begin with, empty for zeros."""
        return (self.hidden_state,)

    @model_validator(mode="after")
    def _require_first_states(self) -> Self:
        wanted = self.hidden * self.directions
        for name, numbers in zip(("hidden_state", "cell_state"), self.first_states, strict=False):
            if numbers and getattr(self, "state_inputs", False):
                message = f"{name} is given, and state_inputs takes the first state from a port"
                raise ValueError(message)
            if len(numbers) not in {0, wanted}:
                message = f"{name} has {len(numbers)} numbers, and the state has {wanted}"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _require_factors(self) -> Self:
        parts = len(self.gates) * self.directions
        for name in ("learn_rate_factors", "l2_factors"):
            table = getattr(self, name)
            for field in ("input", "recurrent", "bias"):
                count = len(getattr(table, field))
                if count not in {1, parts}:
                    message = (
                        f"{name}.{field} has {count} numbers: give one, or {parts} in the order "
                        + ", ".join(self.gates * self.directions)
                    )
                    raise ValueError(message)
        return self


class StatefulOptions(RecurrentOptions):
    """state_inputs, state_outputs: ports for the first state and for that after the last step."""

    state_inputs: bool = False
    state_outputs: bool = False


class LstmOptions(StatefulOptions):
    """See layers.lstm.LstmLayer."""

    gates = ("i", "f", "g", "o")

    bias_initializer: BiasInitializer = "unit-forget-gate"
    cell_state: list[float] = []

    @property
    def first_states(self) -> tuple[list[float], ...]:
        """What the hidden and the cell state begin with, empty for zeros."""
        return self.hidden_state, self.cell_state


class PeepholeOptions(LstmOptions):
    """See layers.peephole.PeepholeLayer. variant: which parts look at the cell."""

    variant: Literal["gers", "input-node"] = "gers"


class ProjectedOptions(LstmOptions):
    """See layers.projected.ProjectedLayer. Ranks of the products with what enters and the state."""

    input_projector: int = Whole
    output_projector: int = Whole


class BilstmOptions(RecurrentOptions):
    """See layers.bilstm.BilstmLayer."""

    gates = ("i", "f", "g", "o")
    directions = 2

    bias_initializer: BiasInitializer = "unit-forget-gate"
    cell_state: list[float] = []

    @property
    def first_states(self) -> tuple[list[float], ...]:
        """What both states begin with, those of the forward direction first; empty for zeros."""
        return self.hidden_state, self.cell_state


class GruOptions(StatefulOptions):
    """See layers.gru.GruLayer. reset: where the reset gate acts."""

    gates = ("r", "z", "h")

    bias_initializer: Literal["narrow-normal", "ones", "zeros"] = "zeros"
    reset: Literal[
        "after-multiplication", "before-multiplication", "recurrent-bias-after-multiplication"
    ] = "after-multiplication"


def _stacked(prefix: str, options: RecurrentOptions, width: int, suffix: str = "") -> Shapes:
    """Return the weights of one direction, by the names that torch gives them."""
    rows = len(options.gates) * options.hidden
    return {
        f"{prefix}.weight_ih_l0{suffix}": (rows, width),
        f"{prefix}.weight_hh_l0{suffix}": (rows, options.hidden),
        f"{prefix}.bias_ih_l0{suffix}": (rows,),
        f"{prefix}.bias_hh_l0{suffix}": (rows,),
    }


def _width(inputs: Mapping[str, Shape]) -> int:
    only_sequences(inputs[IN])
    return only_vectors(inputs[IN])


def _facts(
    options: StatefulOptions, inputs: Mapping[str, Shape], weights: Shapes, names: tuple[str, ...]
) -> Facts:
    """Return the facts of a recurrence whose state has fields of `hidden` numbers each."""
    _require_states(options, inputs)
    once = Shape((options.hidden,), time=False)
    outputs = {OUT: Shape((options.hidden,), options.output == "sequence")}
    if options.state_outputs:
        outputs |= dict.fromkeys(names, once)
    fed = [name for name in names if name in inputs]
    reason = f"takes its first state from another layer, at {fed[0]!r}" if fed else None
    state = dict.fromkeys(names, (options.hidden,))
    return Facts(outputs, weights, state, reason, fixed=_second_biases(weights))


def _second_biases(weights: Shapes) -> frozenset[str]:
    """Return the biases that torch has beside the one of the formulas: they stay zero."""
    return frozenset(name for name in weights if ".bias_hh_l0" in name)


def _require_states(options: StatefulOptions, inputs: Mapping[str, Shape]) -> None:
    for port, shape in inputs.items():
        if port != IN and (shape.time or shape.sizes != (options.hidden,)):
            message = (
                f"takes at {port!r} {options.hidden} numbers once a sequence, and what enters "
                f"is {shape}{' at each step' * shape.time}"
            )
            raise ValueError(message)


def _lstm(options: LstmOptions, inputs: Mapping[str, Shape]) -> Facts:
    weights = _stacked("lstm", options, _width(inputs))
    return _facts(options, inputs, weights, ("hidden", "cell"))


def _gru(options: GruOptions, inputs: Mapping[str, Shape]) -> Facts:
    weights = _stacked("gru", options, _width(inputs))
    facts = _facts(options, inputs, weights, ("hidden",))
    two = options.reset == "recurrent-bias-after-multiplication"
    return replace(facts, fixed=frozenset()) if two else facts


def _peephole(options: PeepholeOptions, inputs: Mapping[str, Shape]) -> Facts:
    hidden = options.hidden
    weights: Shapes = {
        "weight_ih": (4 * hidden, _width(inputs)),
        "weight_hh": (4 * hidden, hidden),
        "bias": (4 * hidden,),
        "peephole": (3 if options.variant == "gers" else 1, hidden),
    }
    return _facts(options, inputs, weights, ("hidden", "cell"))


def _projected(options: ProjectedOptions, inputs: Mapping[str, Shape]) -> Facts:
    width, hidden = _width(inputs), options.hidden
    for name, most in (("input_projector", width), ("output_projector", hidden)):
        rank = getattr(options, name)
        if rank > most:
            message = f"has {name} = {rank}, and a projection of {most} numbers has at most {most}"
            raise ValueError(message)
    weights: Shapes = {
        "weight_ih": (4 * hidden, options.input_projector),
        "weight_hh": (4 * hidden, options.output_projector),
        "bias": (4 * hidden,),
        "input_projector": (width, options.input_projector),
        "output_projector": (hidden, options.output_projector),
    }
    return _facts(options, inputs, weights, ("hidden", "cell"))


def _bilstm(options: BilstmOptions, inputs: Mapping[str, Shape]) -> Facts:
    width, hidden = _width(inputs), options.hidden
    weights = _stacked("lstm", options, width) | _stacked("lstm", options, width, "_reverse")
    outputs = {OUT: Shape((2 * hidden,), options.output == "sequence")}
    state = {"hidden": (hidden,), "cell": (hidden,)}
    reason = "reads each sequence backwards too, from its end"
    return Facts(outputs, weights, state, reason, fixed=_second_biases(weights))


def _ports(*states: str) -> Any:
    return lambda options: (IN, *states) if options.state_inputs else (IN,)


_LSTM_STATE = frozenset({"hidden", "cell"})
LSTM = Kind(LstmOptions, _lstm, _ports("hidden", "cell"), _LSTM_STATE)
PEEPHOLE_LSTM = Kind(PeepholeOptions, _peephole, _ports("hidden", "cell"), _LSTM_STATE)
PROJECTED_LSTM = Kind(ProjectedOptions, _projected, _ports("hidden", "cell"), _LSTM_STATE)
BILSTM = Kind(BilstmOptions, _bilstm)
GRU = Kind(GruOptions, _gru, _ports("hidden"), frozenset({"hidden"}))
