"""What a kind of layer is as data: its options, its ports, and the shapes that follow from both.

Nothing here imports torch, so a model is read and checked, and the kernels are fed, without it. The
modules of the same kinds are in `network.layers`; `tests/conformance/test_layers.py` holds both
against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

NUMBER_MAX = 1 << 30
"""No width, count or length of a network is larger."""

IN, OUT = "in", "out"
"""The main ports of a layer; one that is named without a port means these."""

Shapes = dict[str, tuple[int, ...]]
"""The shape of each array by its name within a layer."""

Whole = Field(ge=1, le=NUMBER_MAX)
"""A count of units, channels or steps, as in `hidden: int = Whole`."""


class Options(BaseModel):
    """The options of a kind of layer: unknown ones are errors, defaults are those documented.

    What checks them is built when options of the kind are first read: a network has few kinds.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )


@dataclass(frozen=True)
class Shape:
    """What passes a port at each step.

    sizes: (C,) features, or channels first (C, H), (C, H, W), (C, D, H, W) of a frame.
    time: there is one at each step; False: one for the whole sequence, as after output "last".
    folded: steps of all series laid end to end as a batch, between folding and unfolding.
    """

    sizes: tuple[int, ...]
    time: bool = True
    folded: bool = False

    @property
    def width(self) -> int:
        """How many numbers it is."""
        return math.prod(self.sizes)

    def __str__(self) -> str:
        text = "x".join(map(str, self.sizes))
        return text + ("" if self.time else ", once a sequence") + (", folded" * self.folded)


@dataclass(frozen=True)
class Facts:
    """What follows from the options of a layer and from what enters it.

    outputs: by port, "out" among them. weights: the arrays of its state_dict(). state: what a
    series remembers, by field of its state, without the axis of the series. needs_future: why it
    cannot be stepped as observations arrive, in words; None where it can. min_length, stride: for n
    steps to come out, min_length + (n - 1) * stride must enter. keeps_length: what comes out has as
    many steps as what enters, wherever it is a sequence. fixed: the arrays that are not learned.
    """

    outputs: dict[str, Shape]
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    state: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    needs_future: str | None = None
    min_length: int = 1
    stride: int = 1
    keeps_length: bool = True
    fixed: frozenset[str] = frozenset()

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(math.prod(x) for name, x in self.weights.items() if name not in self.fixed)


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    options: their type. facts: takes options and the shapes that enter by port; raises ValueError
    with a sentence where they do not fit. ports: names of the inputs for some options, the main one
    first. optional: inputs that may stay unconnected. any_number: it takes inputs of any name, as
    many as are connected.
    """

    options: type[Options]
    facts: Callable[[Any, Mapping[str, Shape]], Facts]
    ports: Callable[[Any], tuple[str, ...]] = lambda options: (IN,)
    optional: frozenset[str] = frozenset()
    any_number: bool = False


def only_vectors(x: Shape) -> int:
    """Return the features of a shape. Raises ValueError where it is that of a frame."""
    if len(x.sizes) != 1:
        message = f"takes vectors, and what enters is {x}; put a flatten layer before it"
        raise ValueError(message)
    return x.sizes[0]


def only_sequences(x: Shape) -> None:
    """Raise ValueError unless there is a value at each step."""
    if not x.time:
        message = f"takes a sequence, and what enters is {x}; give the layer before output sequence"
        raise ValueError(message)
    if x.folded:
        message = f"takes a sequence, and what enters is {x}; put an unfolding layer before it"
        raise ValueError(message)
