"""The reference examples: what each is trained and scored on, its goal, and what it has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

Forecast = Callable[..., Any]
"""Runs a command of `forecast` and returns what it prints with --json."""
Score = Callable[[Forecast, Path, Path], tuple[float, float]]
"""Takes Forecast, a model and the folder of the data; returns its figure and a naive one."""
NEIGHBOURS = 11
CHANNELS = 3


@dataclass(frozen=True)
class Figure:
    """One figure of an example.

    what, naive: in words. at_least: whether more is better. goal: None where there is none.
    """

    what: str
    naive: str
    score: Score
    at_least: bool = True
    goal: float | None = None

    def reached(self, mean: float) -> bool | None:
        """Tell whether a mean reaches the goal; None without one."""
        if self.goal is None:
            return None
        return mean >= self.goal if self.at_least else mean < self.goal


@dataclass(frozen=True)
class Example:
    """A folder here. row: its name in the list of the source documents.

    sets: cards of data sets that it needs; made: sets of made_up.py.
    """

    name: str
    row: str
    figures: tuple[Figure, ...]
    sets: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


def told(name: str, naive: str, files: list[str], *options: str) -> Score:
    """Return what `forecast evaluate` tells of some files, the mean of them."""

    def score(forecast: Forecast, model: Path, data: Path) -> tuple[float, float]:
        found = [
            forecast("evaluate", model, data / file, *options, "--json")["metrics"]
            for file in files
        ]
        one, other = (np.mean([metrics[by][name] for metrics in found]) for by in ("model", naive))
        return float(one), float(other)

    return score


def next_of_waves(forecast: Forecast, model: Path, data: Path) -> tuple[float, float]:
    """Return the RMSE of the model, and of saying that each channel stays as it is."""
    files = ["waveforms_test.parquet"]
    found, _ = told("rmse", "training_mean", files)(forecast, model, data)
    waves = pl.read_parquet(data / files[0])
    names = range(1, CHANNELS + 1)
    errors = [(waves[f"next_{k}"] - waves[f"x{k}"]).to_numpy() for k in names]
    return found, float(np.sqrt(np.mean(np.square(errors))))


def right_sums(forecast: Forecast, model: Path, data: Path) -> tuple[float, float]:
    """Return the share of sums that are right after rounding, and of saying the mean."""
    truth, path = pl.read_parquet(data / "additions_test.parquet"), model / "sums.parquet"
    forecast("predict", model, data / "additions_test.parquet", "-o", path, "--json")
    both = truth.join(pl.read_parquet(path), on="unique_id")
    if both.height != truth.height:
        message = f"{both.height} of {truth.height} sums were predicted"
        raise ValueError(message)
    sums = both["sum"].to_numpy()
    mean = pl.read_parquet(data / "additions_train.parquet")["sum"].to_numpy().mean()
    shares = [np.mean(np.abs(said - sums) < 0.5) for said in (both["yhat"].to_numpy(), mean)]
    return float(shares[0]), float(shares[1])


def settle(data: Path) -> None:
    """Write the tests of occupancy once more, each label the majority of 11 minutes around it.

    In the copy of the data at hand 7 of 100 labels are turned over, minute by minute; the inputs
    are those of the original.
    """
    for part in ("test1", "test2"):
        frame = pl.read_parquet(data / f"occupancy_{part}.parquet").sort("ds")
        around = np.pad(frame["Occupancy"].to_numpy(), NEIGHBOURS // 2, mode="edge")
        labels = np.median(sliding_window_view(around, NEIGHBOURS), axis=1).astype(np.int64)
        found = frame.with_columns(pl.Series("Occupancy", labels))
        found.write_parquet(data / f"occupancy_{part}_settled.parquet")


def _accuracy(goal: float, files: list[str], *options: str, what: str = "accuracy") -> Figure:
    score = told("accuracy", "majority", files, *options)
    return Figure(what, "the most common class", score, True, goal)


def _rmse(what: str, files: list[str], goal: float | None, *options: str) -> Figure:
    return Figure(
        what, "the mean of training", told("rmse", "training_mean", files, *options), False, goal
    )


VOWELS, ENGINES = ["japanese_vowels_test.parquet"], ["cmapss_FD001_test.parquet"]
ROOMS = ["occupancy_test1.parquet", "occupancy_test2.parquet"]
SETTLED = ["occupancy_test1_settled.parquet", "occupancy_test2_settled.parquet"]
LAST = ("--step", "last")
EXAMPLES = [
    Example("e1_japanese_vowels", "E1", (_accuracy(0.94, VOWELS),), ("japanese_vowels",)),
    Example("e1_japanese_vowels_both_ways", "E1", (_accuracy(0.95, VOWELS),), ("japanese_vowels",)),
    Example(
        "e2_turbofan_as_described",
        "E2",
        (_rmse("RMSE of the last cycle, cap 150", ENGINES, 21.0, *LAST),),
        ("cmapss_FD001",),
    ),
    Example(
        "e2_turbofan",
        "E2",
        (_rmse("RMSE of the last cycle, cap 125", ENGINES, 15.0, *LAST),),
        ("cmapss_FD001",),
    ),
    Example(
        "e3_chickenpox",
        "E3",
        (
            Figure(
                "RMSE, open loop",
                "the last value",
                told("rmse", "last_value", ["chickenpox_nyc.parquet"]),
                False,
                150.0,
            ),
        ),
        ("chickenpox_nyc",),
    ),
    Example(
        "e4_waveforms",
        "E4",
        (Figure("RMSE a step ahead, open loop", "the last value", next_of_waves, False),),
        made=("waveforms",),
    ),
    Example(
        "e5_frequency",
        "E5",
        (_rmse("RMSE of the frequency", ["waveforms_test.parquet"], None),),
        made=("waveforms",),
    ),
    Example(
        "e6_occupancy",
        "E6",
        (
            _accuracy(0.97, ROOMS, "--split", "all", what="accuracy, mean of both tests"),
            _accuracy(0.97, SETTLED, "--split", "all", what="the same, labels settled"),
        ),
        ("occupancy",),
    ),
    Example(
        "e7_japanese_vowels_convolution", "E7", (_accuracy(0.93, VOWELS),), ("japanese_vowels",)
    ),
    Example(
        "e8_moving_shapes",
        "E8",
        (_accuracy(0.95, ["moving_shapes_test.parquet"]),),
        made=("moving_shapes",),
    ),
    Example(
        "e9_addition",
        "E9",
        (Figure("sums right after rounding", "the mean of training", right_sums, True, 0.99),),
        made=("additions",),
    ),
    Example(
        "e10_letters",
        "E10",
        (_accuracy(0.99, ["letters_all.parquet"], "--split", "all", what="accuracy on all 510"),),
        made=("letters",),
    ),
]
