"""Learning-rate schedules as functions of how much of the training is done."""

from __future__ import annotations

import math
from typing import NamedTuple


class Rates(NamedTuple):
    """The learning rate and Adam's first decay factor for one step."""

    lr: float
    beta1: float


def one_cycle(lr: float, done: float) -> Rates:
    """Return the rates at `done` in [0, 1]: up for 30 %, then down to almost nothing.

    Smith & Topin 2018; cosine arcs from lr / 25 to lr to lr / 250,000, momentum the other way.
    """
    if done < 0.3:
        rising = _cosine(done / 0.3)
        return Rates(lr * (0.04 + 0.96 * rising), 0.95 - 0.10 * rising)
    falling = _cosine((done - 0.3) / 0.7)
    return Rates(lr * (1 - falling) + lr / 250_000 * falling, 0.85 + 0.10 * falling)


def constant(lr: float, done: float) -> Rates:
    """Return the same rates at any time."""
    return Rates(lr, 0.9)


SCHEDULES = {"onecycle": one_cycle, "constant": constant}


def _cosine(share: float) -> float:
    """Return a smooth way from 0 to 1."""
    return (1 - math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2
