"""What weights begin with, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

NARROW = 0.01
"""Standard deviation of "narrow-normal"."""


def _he(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def _narrow(weight: Tensor) -> None:
    nn.init.normal_(weight, std=NARROW)


WEIGHTS: dict[str, Callable[[Tensor], object]] = {
    "glorot": nn.init.xavier_uniform_,
    "he": _he,
    "orthogonal": nn.init.orthogonal_,
    "narrow-normal": _narrow,
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
}
"""Name: fills a matrix [outputs, inputs]. The parts of a stacked one are filled as a whole.

glorot: Glorot & Bengio 2010, uniform. he: He et al. 2015, normal with variance 2 / inputs.
orthogonal: Saxe et al. 2014. narrow-normal: normal with deviation 0.01.
"""


def fill_bias(bias: Tensor, name: str) -> None:
    """Fill a bias. "unit-forget-gate": 1 in the second quarter, 0 elsewhere.

    With open forget gates at first, gradients reach far back (Jozefowicz et al. 2015).
    """
    with torch.no_grad():
        if name == "unit-forget-gate":
            bias.zero_()
            bias.view(4, -1)[1] = 1
        else:
            WEIGHTS[name](bias)
