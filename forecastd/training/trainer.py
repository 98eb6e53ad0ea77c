"""The training loop: lanes or windows in, the best weights out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forecastd.config import TrainConfig
from forecastd.data.lanes import Chunk, Shape, extent_of, sweep_plan, walk
from forecastd.data.prefetch import Prefetch
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.device import choose_device, take_threads
from forecastd.network.losses import MEDIAN, quantile_loss
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import NetworkSpec
from forecastd.network.walker import Clocks, Walker
from forecastd.series import IntArray
from forecastd.training import state
from forecastd.training.plan import Material, Pace
from forecastd.training.scaling import fit_scaling
from forecastd.training.schedule import SCHEDULES

VALIDATION_CONTEXT = 512
VALIDATION_SEQUENCE = 256


@dataclass(frozen=True)
class Report:
    """What a training tells after each step: epoch and step from 1, the newest losses."""

    epoch: int
    epochs: int
    step: int
    loss: float
    valid: float | None
    epoch_ended: bool
    seconds: float


@dataclass(frozen=True)
class Task:
    """What to train: settings, data, and the shapes that follow from both."""

    config: TrainConfig
    material: Material
    vocabulary: Vocabulary
    spec: NetworkSpec
    pace: Pace
    clocks: Clocks


@dataclass
class Costs:
    """What reading costs a training.

    waited, worked: seconds that this process waited for chunks, and trained on them. padding:
    share of the steps of the newest epoch that are padding.
    """

    waited: float = 0.0
    worked: float = 0.0
    padding: float = 0.0

    @property
    def loader(self) -> float:
        """The share of the time of whole steps that was spent waiting for a chunk."""
        return self.waited / max(self.waited + self.worked, 1e-9)


@dataclass(frozen=True)
class Outcome:
    """The best network, its validation loss and epoch, and whether the training was finished."""

    network: ForecastNetwork
    progress: state.Progress
    finished: bool
    costs: Costs


class Trainer:
    """Trains one network. `last`: the folder where an interrupted training can go on."""

    def __init__(self, task: Task, last: Path) -> None:
        self.task = task
        self.last = last
        train = task.config.train
        take_threads(task.spec, train.threads)
        torch.manual_seed(train.seed)
        self.network = ForecastNetwork(task.spec).to(choose_device(train.device))
        fit_scaling(self.network, task.config, task.material)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=train.lr, weight_decay=train.weight_decay
        )
        self.progress = state.Progress()
        self.costs = Costs()
        self.best_weights: dict[str, Tensor] = {}
        codes = task.material.codes(task.vocabulary)
        self.walker = Walker(self.network, task.clocks, codes)
        quantiles = task.spec.head.quantiles or MEDIAN
        self.quantiles = torch.tensor(quantiles, device=self.network.device)
        self.deviation = torch.from_numpy(task.material.statistics.std).to(self.network.device)

    def resume(self) -> None:
        """Go on where `last` says. Raises ArtifactError when that is not possible."""
        memory = self._memory()
        self.progress = state.load(self.last, memory)
        self.best_weights, self.walker.state = memory.best_weights, memory.lanes

    def fit(self, report: Callable[[Report], None], stop: Callable[[], bool]) -> Outcome:
        """Train until the epochs are over, patience runs out, or `stop` says so."""
        patience = self.task.config.train.patience
        progress = self.progress
        started = time.monotonic() - progress.seconds
        finished = True
        while progress.epoch < self.task.pace.epochs:
            if not self._epoch(report, stop, started):
                finished = False
                break
            if patience and progress.without_gain >= patience:
                break
        progress.seconds = time.monotonic() - started
        if not finished:
            state.save(self.last, progress, self._memory())
        if progress.best < float("inf"):
            self.network.load_state_dict(self.best_weights)
        self.network.encoder.embed_unknown_as_mean()
        return Outcome(self.network.eval(), progress, finished, self.costs)

    def _epoch(
        self, report: Callable[[Report], None], stop: Callable[[], bool], started: float
    ) -> bool:
        """Go through one epoch, or the rest of it; False when stopped in between."""
        task, progress = self.task, self.progress
        pace, train = task.pace, task.config.train
        dice = np.random.default_rng([train.seed, progress.epoch])
        plan = pace.planner(task.material.training_pieces(), pace.lanes, dice, pace.shape.sequence)
        extent = extent_of(plan, pace.shape)
        self.costs.padding = extent.padding
        if progress.chunk == 0:
            self.walker.state = None
        with self._ahead(walk(task.material.store, plan, pace.shape, progress.chunk)) as chunks:
            for number, chunk in enumerate(chunks, progress.chunk):
                if stop():
                    break
                begun = time.perf_counter()
                self._set_rates((progress.epoch + number / extent.chunks) / pace.epochs)
                self._step(chunk, number)
                progress.chunk = number + 1
                self.costs.worked += time.perf_counter() - begun
                report(self._report(None, False, started))
            self.costs.waited += chunks.waited
        if progress.chunk < extent.chunks:
            return False
        del plan
        self.optimizer.zero_grad()  # no gradient is kept beside what the validation needs
        self._end_epoch(report, started)
        return True

    def _ahead(self, chunks: Iterator[Chunk]) -> Prefetch[Chunk]:
        return Prefetch(chunks, pinned if self.network.device.type == "cuda" else None)

    def _step(self, chunk: Chunk, number: int) -> None:
        """One step of the optimiser on one chunk."""
        train, steps = self.task.config.train, chunk.values.shape[1]
        first = (number + self.progress.epoch) % train.loss_stride
        at = np.arange(min(first, steps - 1), steps, train.loss_stride)
        if self.task.config.network.output == "last":
            at = np.array([steps - 1])
        self.network.train()
        earliest = self.task.pace.warmup - chunk.age
        loss, count = self._loss(self.walker, chunk, at, earliest, self.deviation)
        self.progress.steps += 1
        if count == 0:
            return
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), train.clip)
        self.optimizer.step()
        self.progress.loss_sum += loss.item()
        self.progress.loss_count += 1

    def _loss(
        self, walker: Walker, chunk: Chunk, at: IntArray, earliest: IntArray, scale: Tensor
    ) -> tuple[Tensor, int]:
        """Return the loss of the steps `at` and how many of them count.

        A step counts from `earliest` [B] on, within the real length of its lane. Errors are
        weighed back to the scale of the training part, each series by its deviation in `scale`.
        """
        forecast = walker.unroll(chunk, at)
        counts = (at >= earliest[:, None]) & (at < chunk.length[:, None])
        mask = torch.from_numpy(counts).to(self.network.device)
        targets = walker.future(chunk, at).double()
        scaled = (targets - forecast.location[..., None]) / forecast.spread[..., None]
        deviation = scale[torch.from_numpy(chunk.series).to(scale.device)]
        weight = forecast.spread / deviation[:, None] * mask
        kind = forecast.values.dtype
        loss = quantile_loss(forecast.values, scaled.to(kind), self.quantiles, weight.to(kind))
        return loss, int(counts.sum())

    def _end_epoch(self, report: Callable[[Report], None], started: float) -> None:
        progress, pace = self.progress, self.task.pace
        due = (progress.epoch + 1) % pace.validate_every == 0 or progress.epoch + 1 == pace.epochs
        valid = self._validate() if due else None
        if valid is not None and valid < progress.best:
            self.best_weights, progress.best_epoch = self._weights(), progress.epoch
            progress.best, progress.without_gain = valid, 0
        elif valid is not None:
            progress.without_gain += 1
        ended = self._report(valid, True, started)
        progress.history.append(
            {"epoch": ended.epoch, "step": ended.step, "loss": ended.loss}
            | ({"valid": valid} if valid is not None else {})
        )
        progress.epoch, progress.chunk = progress.epoch + 1, 0
        progress.loss_sum, progress.loss_count = 0.0, 0
        report(ended)

    def _validate(self) -> float | None:
        """Return the loss on the validation part, the network carried into it; None if empty."""
        material, pace, train = self.task.material, self.task.pace, self.task.config.train
        pieces = material.validation_pieces(VALIDATION_CONTEXT, train.seed)
        steps = 1 if self.task.config.network.output == "last" else VALIDATION_SEQUENCE
        shape = Shape(steps, pace.shape.horizon, pace.shape.lead)
        at = np.arange(0, steps, min(train.loss_stride, steps))
        held, codes = material.validation, self.walker.codes
        if material.valid_store is not None:
            codes = self.task.vocabulary.encode(held.store.keys, held.store.static)
        scale = torch.from_numpy(material.validation_deviation()).to(self.network.device)
        walker = Walker(self.network, self.task.clocks, codes)
        self.network.encoder.embed_unknown_as_mean()  # as a series held out is met live
        self.network.eval()
        total, count = 0.0, 0
        chunks = walk(held.store, sweep_plan(pieces, pace.lanes), shape)
        with torch.inference_mode(), self._ahead(chunks) as ready:
            for chunk in ready:
                first_origin = held.begin[chunk.series] - 1 - chunk.rows
                loss, counted = self._loss(walker, chunk, at, first_origin, scale)
                total, count = total + loss.item() * counted, count + counted
        return total / count if count else None

    def _set_rates(self, done: float) -> None:
        train = self.task.config.train
        rates = SCHEDULES[train.schedule](train.lr, done)
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = rates.lr, (rates.beta1, 0.999)

    def _report(self, valid: float | None, ended: bool, started: float) -> Report:
        progress = self.progress
        loss = progress.loss_sum / max(1, progress.loss_count)
        seconds = time.monotonic() - started
        epochs = self.task.pace.epochs
        return Report(progress.epoch + 1, epochs, progress.steps, loss, valid, ended, seconds)

    def _weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.network.state_dict().items()}

    def _memory(self) -> state.Memory:
        return state.Memory(self.network, self.optimizer, self.walker.state, self.best_weights)


def pinned(chunk: Chunk) -> Chunk:
    """Return the chunk in page-locked memory, from where a copy to a GPU is quick."""
    return Chunk(*(torch.from_numpy(array).pin_memory().numpy() for array in chunk))
