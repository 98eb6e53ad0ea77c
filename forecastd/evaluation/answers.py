"""Scores a regression or a classification on rows whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.data.lanes import pieces_of
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.network.device import take_threads
from forecastd.network.sweep import (
    last_pieces,
    newest,
    observed_between,
    says_once,
    sweep,
    window_of,
)
from forecastd.network.walker import Walker
from forecastd.series import IntArray

Doubles = NDArray[np.float64]
LOG_MIN = 1e-15
"""No probability counts as less: one answer that was thought impossible is not infinitely wrong."""


@dataclass(frozen=True)
class Answers:
    """Metrics by who answered ("model", and a constant answer), and what was scored.

    classes, confusion: of a classification, [true][said] counts; else empty.
    """

    metrics: dict[str, dict[str, float]]
    series: int
    answers: int
    classes: tuple[str, ...] = ()
    confusion: list[list[int]] = field(default_factory=list)


def evaluate_answers(
    artifact: Artifact,
    store: Store,
    begin: IntArray,
    end: IntArray,
    *,
    last: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Answers:
    """Score what a model says of rows begin:end of each series ([S]) where the answer is known.

    last: only of the last observed one of these rows; a network that says one thing of a whole
    series is scored there anyway. The states are carried from the start of each series. report:
    rows done, rows in all. Raises DataError when no row has an answer.
    """
    take_threads(artifact.spec)
    pieces = pieces_of(store, store.offsets[:-1], np.where(begin < end, end, 0), end)
    if says_once(artifact.spec):
        pieces = last_pieces(pieces)
    wanted = (newest if last else observed_between)(store, begin, end)
    codes = artifact.vocabulary.encode(store.keys, store.static)
    walker = Walker(artifact.network, artifact.clocks, codes)
    board = board_of(artifact)
    scored: set[int] = set()
    total, done, count = int(pieces.lengths.sum()), 0, len(artifact.signature.targets)
    for part in sweep(walker, store, pieces, wanted, window_of(artifact.provenance)):
        truth = np.asarray(store.values)[part.rows, :count].astype(np.float64)
        known = np.isfinite(truth).all(-1)
        board.add(part.values[known, 0].astype(np.float64), truth[known])
        scored.update(part.chunk.series[part.lanes[known]].tolist())
        done += part.steps
        report(min(done, total), total)
    if not board.count:
        names = " and ".join(artifact.signature.targets)
        message = f"no row to evaluate has an answer in {names}"
        raise DataError(message, hint="give rows with answers, or another part with --split")
    return board.result(len(scored))


class Regression:
    """Sums over scored answers of R responses. constant [R]: the mean of the training part."""

    def __init__(self, names: tuple[str, ...], constant: Doubles) -> None:
        self.names, self.constant = names, constant
        self.count = 0
        self.squares, self.absolute = {}, {}
        for by in ("model", "training_mean"):
            self.squares[by], self.absolute[by] = (np.zeros(len(names)) for _ in range(2))
        self.first: Doubles | None = None
        self.sum, self.sum_squares = np.zeros(len(names)), np.zeros(len(names))

    def add(self, said: Doubles, truth: Doubles) -> None:
        """Count answers [n, R] against the truth [n, R]."""
        if not len(truth):
            return
        if self.first is None:  # sums of what is far from zero would lose their digits
            self.first = truth[0]
        self.count += len(truth)
        for by, answer in {"model": said, "training_mean": self.constant[None]}.items():
            self.squares[by] += ((answer - truth) ** 2).sum(0)
            self.absolute[by] += np.abs(answer - truth).sum(0)
        moved = truth - self.first
        self.sum += moved.sum(0)
        self.sum_squares += (moved**2).sum(0)

    def result(self, series: int) -> Answers:
        """Return rmse, mae and r2 of each response; with several, also over all of them."""
        around = self.sum_squares - self.sum**2 / self.count
        metrics = {by: self._of(by, around) for by in self.squares}
        return Answers(metrics, series, self.count)

    def _of(self, by: str, around: Doubles) -> dict[str, float]:
        squares, absolute, found = self.squares[by], self.absolute[by], {}
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(around > 0, 1 - squares / around, np.nan)
        if len(self.names) > 1:
            found["rmse"] = float(np.sqrt(squares.mean() / self.count))
            found["mae"] = float(absolute.mean() / self.count)
        for place, name in enumerate(self.names):
            tail = f"_{name}" if len(self.names) > 1 else ""
            found[f"rmse{tail}"] = float(np.sqrt(squares[place] / self.count))
            found[f"mae{tail}"] = float(absolute[place] / self.count)
            found[f"r2{tail}"] = float(shares[place])
        return found


class Classification:
    """Counts of scored answers among K classes."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)
        self.logs = 0.0

    @property
    def count(self) -> int:
        """How many answers were scored."""
        return int(self.confusion.sum())

    def add(self, said: Doubles, truth: Doubles) -> None:
        """Count probabilities [n, K] against codes [n, 1]."""
        codes = truth[:, 0].astype(np.int64)
        np.add.at(self.confusion, (codes, said.argmax(-1)), 1)
        chances = said[np.arange(len(codes)), codes]
        self.logs -= float(np.log(np.maximum(chances, LOG_MIN)).sum())

    def result(self, series: int) -> Answers:
        """Return the metrics beside those of always saying the commonest of the scored classes."""
        counts = self.confusion.sum(1)
        shares = counts[counts > 0] / self.count
        always = np.zeros_like(self.confusion)
        always[:, int(counts.argmax())] = counts
        entropy = float(-(shares * np.log(shares)).sum())
        metrics = {
            "model": _class_metrics(self.confusion) | {"log_loss": self.logs / self.count},
            "majority": _class_metrics(always) | {"log_loss": entropy},
        }
        return Answers(metrics, series, self.count, self.classes, self.confusion.tolist())


def board_of(artifact: Artifact) -> Regression | Classification:
    """Return what adds up the answers of a model."""
    signature = artifact.signature
    if signature.task == "classification":
        return Classification(signature.classes)
    return Regression(signature.targets, artifact.weights["head.location"].astype(np.float64))


def _class_metrics(confusion: IntArray) -> dict[str, float]:
    """Return accuracy, and means over the classes that there are or that were said.

    balanced_accuracy: mean recall of the true classes. macro_f1: mean of 2 hits / (true + said).
    """
    hits, true, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    there, either = true > 0, true + said > 0
    return {
        "accuracy": float(hits.sum() / true.sum()),
        "balanced_accuracy": float((hits[there] / true[there]).mean()),
        "macro_f1": float((2 * hits[either] / (true + said)[either]).mean()),
    }
