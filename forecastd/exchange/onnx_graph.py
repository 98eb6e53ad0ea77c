"""Operations and constants of an ONNX graph as they are added, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from forecastd.exchange.parts import Array


@dataclass
class Graph:
    """Operations and constants as they are added; values go by their names."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add an operation and return the name of its last output."""
        names = [f"{kind.lower()}_{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[-1]

    def constant(self, array: Array) -> str:
        """Add an array; floats as float32."""
        name = f"constant_{len(self.constants)}"
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        stored = np.array(array, kind, order="C")  # ascontiguousarray would add an axis to none
        self.constants.append(numpy_helper.from_array(stored, name))
        return name

    def exact(self, numbers: Array | float) -> str:
        """Add numbers as float64."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(numbers, np.float64), name))
        return name

    def place(self, number: int) -> str:
        """Add a whole number that is no list: an index that takes an axis away."""
        return self.constant(np.array(number, np.int64))

    def name(self, value: str, name: str) -> None:
        """Let a value leave the graph under a name of its own."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def whole(self, *numbers: int) -> str:
        """Add whole numbers, as axes are given."""
        return self.constant(np.array(numbers, np.int64))


def linear(graph: Graph, arrays: Mapping[str, Array], x: str) -> str:
    """Write the linear map of x [series, in] by `weight` [out, in] and, if there is one, `bias`."""
    constants = [graph.constant(arrays[name]) for name in ("weight", "bias") if name in arrays]
    return graph.op("Gemm", x, *constants, transB=1)
