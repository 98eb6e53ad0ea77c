"""Learning-rate schedules as functions of how much of the training is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from forecastd.train_settings import TrainSettings


class Rates(NamedTuple):
    """The learning rate for one step, and the momentum where the schedule varies it."""

    lr: float
    momentum: float | None = None


def one_cycle(lr: float, done: float) -> Rates:
    """Return the rates at `done` in [0, 1]: up for 30 %, then down to almost nothing.

    Smith & Topin 2018; cosine arcs from lr / 25 to lr to lr / 250,000, momentum the other way.
    """
    if done < 0.3:
        rising = _cosine(done / 0.3)
        return Rates(lr * (0.04 + 0.96 * rising), 0.95 - 0.10 * rising)
    falling = _cosine((done - 0.3) / 0.7)
    return Rates(lr * (1 - falling) + lr / 250_000 * falling, 0.85 + 0.10 * falling)


def piecewise(lr: float, epoch: int, factor: float, period: int) -> Rates:
    """Return the rates of an epoch, from 1: times `factor` after every `period` of them."""
    return Rates(lr * factor ** ((epoch - 1) // period))


Schedule = Callable[[TrainSettings, int, float], Rates]
"""Settings, epoch from 1, and the share of the training that is done, to the rates."""

SCHEDULES: dict[str, Schedule] = {
    "onecycle": lambda train, epoch, done: one_cycle(train.rate, done),
    "constant": lambda train, epoch, done: Rates(train.rate),
    "none": lambda train, epoch, done: Rates(train.rate),
    "piecewise": lambda train, epoch, done: piecewise(
        train.rate, epoch, train.drop_factor, train.drop_period
    ),
}


def _cosine(share: float) -> float:
    """Return a smooth way from 0 to 1."""
    return (1 - math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2
