"""Scores a model on held-out rows, every origin, beside the naive forecasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forecastd.artifact import Artifact
from forecastd.data.lanes import pieces_of
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.evaluation.baselines import fill_last, fill_season, last_value, seasonal_naive
from forecastd.evaluation.metrics import Scores
from forecastd.network.device import take_threads
from forecastd.network.sweep import LANES, observed_between, sweep, window_of
from forecastd.network.walker import Walker
from forecastd.series import FloatArray, IntArray


@dataclass(frozen=True)
class Evaluation:
    """Metrics by forecaster ("model", "last_value", "seasonal_naive"), and what was scored."""

    metrics: dict[str, dict[str, float]]
    series: int
    origins: int
    values: int


def evaluate(
    artifact: Artifact,
    store: Store,
    begin: IntArray,
    end: IntArray,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Forecast from every origin whose horizon lies within rows begin:end of its series ([S]).

    The states are carried from the start of each series. report: rows done, rows in all. All
    forecasters are scored on the same values. Raises DataError when no origin is left.
    """
    take_threads(artifact.spec)
    horizon = artifact.signature.horizon
    stop = np.where(begin < end, np.maximum(end - horizon, 0), 0)  # the rest is not walked
    pieces = pieces_of(store, store.offsets[:-1], stop, end)
    codes = artifact.vocabulary.encode(store.keys, store.static)
    walker = Walker(artifact.network, artifact.clocks, codes)
    board = Scoreboard(artifact, store)
    wanted = observed_between(store, np.maximum(begin - 1, store.offsets[:-1]), stop)
    total, done = int(pieces.lengths.sum()), 0
    for part in sweep(walker, store, pieces, wanted, window_of(artifact.provenance)):
        owners = part.chunk.series[part.lanes]
        for series in np.unique(owners).tolist():
            own = owners == series
            board.add(series, part.rows[own], part.values[own])
        done += part.steps
        report(min(done, total), total)
    return board.result()


class Scoreboard:
    """Adds up how good forecasts are, whoever made them, beside the naive ones.

    Truth is read from the store; what is missing or beyond a hole that resets is not scored.
    """

    def __init__(self, artifact: Artifact, store: Store) -> None:
        self.store = store
        self.signature = artifact.signature
        self.mase_scale, self.deviation = _scales(artifact, store)
        self.model = Scores(self.signature, artifact.signature.quantiles)
        self.last = Scores(self.signature, ())
        self.seasonal = Scores(self.signature, ())
        self.origins = 0
        self.scored: set[int] = set()
        self._filled: dict[int, tuple[FloatArray, FloatArray]] = {}

    def add(self, series: int, rows: IntArray, forecast: FloatArray) -> None:
        """Score forecasts [n, horizon, Q] of one series made at its rows [n]."""
        if len(rows) == 0:
            return
        horizon, season = self.signature.horizon, self.signature.season
        start = int(self.store.offsets[series])
        by_last, by_season = self._fillings(series)
        latest = last_value(by_last, rows - start, horizon)
        seasonal = seasonal_naive(by_season, rows - start, horizon, season)
        seasonal = np.where(np.isfinite(seasonal), seasonal, latest)
        segment_ends = self.store.segments[:, 2]
        stops = segment_ends[np.searchsorted(segment_ends, rows, side="right")][:, None]
        ahead = rows[:, None] + np.arange(1, horizon + 1)
        truth = np.where(ahead < stops, self.store.values[np.minimum(ahead, stops - 1), 0], np.nan)
        truth = np.where(np.isfinite(latest), truth, np.nan)
        scale = np.full(len(rows), self.mase_scale[series])
        deviation = np.full(len(rows), self.deviation[series])
        self.model.add(forecast, truth, scale, deviation)
        self.last.add(latest[..., None], truth, scale, deviation)
        self.seasonal.add(seasonal[..., None], truth, scale, deviation)
        self.origins += len(rows)
        self.scored.add(series)

    def _fillings(self, series: int) -> tuple[FloatArray, FloatArray]:
        if series not in self._filled:
            if len(self._filled) >= LANES:
                self._filled.clear()
            start, stop = self.store.offsets[series], self.store.offsets[series + 1]
            target = np.asarray(self.store.values[start:stop, 0])
            self._filled[series] = fill_last(target), fill_season(target, self.signature.season)
        return self._filled[series]

    def result(self) -> Evaluation:
        """Return the metrics. Raises DataError when nothing was scored."""
        if self.model.count == 0:
            message = "no origin has its whole horizon within the rows to evaluate"
            raise DataError(message, hint="give more rows, or a longer test part in [split]")
        metrics = {
            "model": self.model.summary(),
            "last_value": self.last.summary(),
            "seasonal_naive": self.seasonal.summary(),
        }
        return Evaluation(metrics, len(self.scored), self.origins, self.model.count)


def _scales(artifact: Artifact, store: Store) -> tuple[FloatArray, FloatArray]:
    """Return mase_scale and deviation per series of the store; unknown series: the median."""
    codes = artifact.vocabulary.encode(store.keys)[:, 0]
    found = []
    for name in ("mase_scale", "std"):
        known = artifact.statistics[name]
        middle = float(np.median(known)) or 1.0
        values = np.where(codes > 0, known[np.maximum(codes - 1, 0)], middle)
        found.append(np.where(values > 0, values, middle))
    return found[0], found[1]
