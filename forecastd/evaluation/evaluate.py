"""Scores a model on held-out rows, every origin, beside the naive forecasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from forecastd.artifact import Artifact
from forecastd.data.lanes import Chunk, Shape, pieces_of, sweep_plan, walk
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.evaluation.baselines import fill_last, fill_season, last_value, seasonal_naive
from forecastd.evaluation.metrics import Scores
from forecastd.network.walker import Walker, steps_at_once
from forecastd.series import FloatArray, IntArray

LANES = 64


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
    horizon = artifact.signature.horizon
    pieces = pieces_of(store, store.offsets[:-1], np.maximum(end - horizon, 0), end)
    shape = Shape(steps_at_once(artifact.spec, LANES), horizon, 0)
    walker = Walker(artifact.network, artifact.clocks, artifact.vocabulary.encode(store.keys))
    scorer = _Scorer(artifact, store, begin, end)
    total, done = sum(p.end - p.begin for p in pieces), 0
    with torch.inference_mode():
        for chunk in walk(store, sweep_plan(pieces, LANES), shape):
            values = walker.unroll(chunk).unscaled().numpy(force=True)
            scorer.add(chunk, values.astype(np.float32))
            done += int(chunk.length.sum())
            report(done, total)
    return scorer.result()


class _Scorer:
    def __init__(self, artifact: Artifact, store: Store, begin: IntArray, end: IntArray) -> None:
        self.store, self.begin, self.end = store, begin, end
        self.signature = artifact.signature
        self.mase_scale, self.deviation = _scales(artifact, store)
        quantiles = artifact.signature.quantiles
        self.model = Scores(self.signature, quantiles)
        self.last = Scores(self.signature, ())
        self.seasonal = Scores(self.signature, ())
        self.origins = 0
        self.scored: set[int] = set()
        self._filled: dict[int, tuple[FloatArray, FloatArray]] = {}

    def add(self, chunk: Chunk, forecasts: FloatArray) -> None:
        """Score the origins of a chunk; forecasts [B, T, horizon, Q]."""
        horizon = self.signature.horizon
        for lane, series in enumerate(chunk.series.tolist()):
            rows = chunk.rows[lane] + np.arange(chunk.length[lane])
            first = max(self.begin[series] - 1, self.store.offsets[series])
            fits = (rows >= first) & (rows + horizon < self.end[series])
            steps = np.flatnonzero(fits & self.store.observed[rows]) if len(rows) else rows
            if len(steps) == 0:
                continue
            truth = np.lib.stride_tricks.sliding_window_view(chunk.future[lane], horizon)[steps]
            self._score(series, rows[steps], forecasts[lane, steps], truth)

    def _score(self, series: int, rows: IntArray, forecast: FloatArray, truth: FloatArray) -> None:
        horizon, season = self.signature.horizon, self.signature.season
        start = int(self.store.offsets[series])
        by_last, by_season = self._fillings(series)
        latest = last_value(by_last, rows - start, horizon)
        seasonal = seasonal_naive(by_season, rows - start, horizon, season)
        seasonal = np.where(np.isfinite(seasonal), seasonal, latest)
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
