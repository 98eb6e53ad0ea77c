"""The training loop: chunks in, the best or the last weights out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from forecastd.data.lanes import Chunk
from forecastd.errors import UserError
from forecastd.network.device import choose_device, take_threads
from forecastd.network.layers.batch_norm import finalise
from forecastd.network.losses import LossOptions, errors_of
from forecastd.network.model import ForecastNetwork
from forecastd.network.walker import Walker
from forecastd.training import state
from forecastd.training.answers import fit_answers
from forecastd.training.averaging import Loss
from forecastd.training.factors import trained_parameters
from forecastd.training.passes import Pass, Task, ahead, sweep_pass, training_pass
from forecastd.training.scaling import fit_scaling
from forecastd.training.schedule import SCHEDULES, Rates
from forecastd.training.solvers import FullBatchSolver, solver_of
from forecastd.training.validation import validation_loss

CHECKPOINTS = "checkpoints"
"""The folder of a run with what `train.checkpoint_every` leaves."""


@dataclass(frozen=True)
class Report:
    """What a training tells after each step, each epoch and each validation.

    epoch, step: from 1. loss: the mean of the epoch so far. valid: the loss of a validation that
    was just made. rate: the learning rate of the newest step.
    """

    epoch: int
    epochs: int
    step: int
    loss: float
    valid: float | None
    epoch_ended: bool
    seconds: float
    rate: float = 0.0


Listener = Callable[[Report], bool | None]
"""Hears of each step, each epoch and each validation; True stops the training, to be gone on."""


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
    """The network, where the training stands, and whether it was finished.

    ended: why it ended: one of "epochs", "iterations", "patience", "loss", "converged", "diverged",
    or "stopped" where it can be gone on.
    """

    network: ForecastNetwork
    progress: state.Progress
    finished: bool
    costs: Costs
    ended: str = "epochs"


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
        fit_answers(self.network, task.config, task.material)
        self.solver = solver_of(trained_parameters(self.network, train), train)
        self.progress = state.Progress()
        self.costs = Costs()
        self.best_weights: dict[str, Tensor] = {}
        codes = task.material.codes(task.vocabulary)
        self.walker = Walker(self.network, task.clocks, codes)
        options = LossOptions(train.huber_delta, tuple(task.config.task.class_weights or ()))
        supervised = self.network.head.supervised
        errors = errors_of(task.spec.head, train.loss, options)
        by_row = task.pace.batching is not None
        self.loss = Loss(errors, weighed=not supervised, by_row=by_row)
        self.deviation = torch.from_numpy(task.material.statistics.std).to(self.network.device)
        self.rates = Rates(train.rate)

    def resume(self, folder: Path | None = None) -> None:
        """Go on where a folder says, `last` if None. Raises ArtifactError when that cannot be."""
        memory = self._memory()
        self.progress = state.load(folder or self.last, memory)
        self.best_weights, self.walker.state = memory.best_weights, memory.lanes

    def fit(self, report: Listener, stop: Callable[[], bool]) -> Outcome:
        """Train until something ends it: see `Outcome`.

        stop: asked before each step. Raises UserError where the loss is no number and there are no
        better weights.
        """
        progress, train = self.progress, self.task.config.train
        started = time.monotonic() - progress.seconds
        ended = None if progress.epoch < self.task.pace.epochs else "epochs"
        while ended is None:
            ended = self._epoch(report, stop, started)
            progress.seconds = time.monotonic() - started
            if ended is None and self._checkpoint_due():
                name = f"epoch-{progress.epoch:04}"
                state.save(self.last.parent / CHECKPOINTS / name, progress, self._memory())
        if ended == "stopped":
            state.save(self.last, progress, self._memory())
        elif ended == "diverged" and not self.best_weights:
            message = f"the loss is not a number at step {progress.steps}"
            raise UserError(message, hint="choose a lower train.lr, or a smaller train.clip")
        if self.best_weights and (train.keep == "best" or ended == "diverged"):
            self.network.load_state_dict(self.best_weights)
        self.network.encoder.embed_unknown_as_mean()
        finalise(self.network, self._sweep)
        return Outcome(self.network.eval(), progress, ended != "stopped", self.costs, ended)

    def _sweep(self) -> None:
        """Pass the training part through the network once."""
        way, walker = sweep_pass(self.task), self.walker
        before, walker.state = walker.state, None
        with ahead(way.walk(0), self.network.device) as chunks:
            for number, chunk in enumerate(chunks):
                walker.unroll(chunk, way.marks(chunk, number).at)
        walker.state = before

    def _epoch(self, report: Listener, stop: Callable[[], bool], started: float) -> str | None:
        """Go through one epoch, or the rest of it. Return why the training ends; None: it goes on.

        A stop leaves everything so that `_epoch` goes on with the next chunk.
        """
        task, progress = self.task, self.progress
        whole = isinstance(self.solver, FullBatchSolver)
        way = training_pass(task, 0 if whole else progress.epoch)
        self.costs.padding = way.padding
        if whole:
            ended = "stopped" if stop() else self._iterate(way)
        else:
            ended = self._walk(way, report, stop, started)
        if ended in {"stopped", "diverged"}:
            return ended
        del way
        self.solver.forget_gradients()  # none is kept beside what the validation needs
        if ended is None or whole:
            ended = self._end_epoch(report, started) or ended
        elif progress.validated < progress.steps:
            self._heard(report, self._validate(), started)
        return ended

    def _walk(
        self, way: Pass, report: Listener, stop: Callable[[], bool], started: float
    ) -> str | None:
        """Step through the chunks of an epoch. Return why the training ends within it."""
        progress = self.progress
        if progress.chunk == 0:
            self.walker.state = None
        with ahead(way.walk(progress.chunk), self.network.device) as chunks:
            ended = None
            for number, chunk in enumerate(chunks, progress.chunk):
                if stop():
                    ended = "stopped"
                    break
                begun = time.perf_counter()
                self._set_rates((progress.epoch + number / way.chunks) / self.task.pace.epochs)
                good = self._step(way, chunk, number)
                progress.chunk = number + 1
                self.costs.worked += time.perf_counter() - begun
                ended = self._after_step(report, started) if good else "diverged"
                if ended is not None:
                    break
            self.costs.waited += chunks.waited
        return ended

    def _after_step(self, report: Listener, started: float) -> str | None:
        """Validate if it is due, tell, and return why the training ends now, if it does."""
        train, progress = self.task.config.train, self.progress
        every, most = train.validation_frequency, train.iterations_max
        valid = None
        if every is not None and progress.steps % every == 0:
            self.solver.forget_gradients()
            valid = self._validate()
        if self._heard(report, valid, started):
            return "stopped"
        if train.patience and progress.without_gain >= train.patience:
            return "patience"
        return "iterations" if most is not None and progress.steps >= most else None

    def _step(self, way: Pass, chunk: Chunk, number: int) -> bool:
        """Take one step of the solver on one chunk. Return whether its loss is a number."""
        loss, count = self._chunk_loss(way, chunk, number)
        self.progress.steps += 1
        if count == 0:
            return True
        self.solver.forget_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        assert not isinstance(self.solver, FullBatchSolver)
        self.solver.step()
        found = loss.item()
        self.progress.loss_sum += found
        self.progress.loss_count += 1
        return math.isfinite(found)

    def _iterate(self, way: Pass) -> str | None:
        """Take one step of the solver on all chunks at once. Return why the training ends now.

        What is drawn at random is drawn alike each time: the loss is a function of the weights.
        """
        progress, train = self.progress, self.task.config.train
        assert isinstance(self.solver, FullBatchSolver)

        def whole() -> float:
            torch.manual_seed(train.seed)
            self.walker.state = None
            total, count = 0.0, 0
            with ahead(way.walk(0), self.network.device) as chunks:
                for number, chunk in enumerate(chunks):
                    loss, counted = self._chunk_loss(way, chunk, number)
                    if counted:
                        (loss * counted).backward()  # type: ignore[no-untyped-call]
                    total, count = total + loss.item() * counted, count + counted
                self.costs.waited += chunks.waited
            for one in self.solver.trained:
                if one.parameter.grad is not None:
                    one.parameter.grad.div_(max(1, count))
            return total / max(1, count)

        begun = time.perf_counter()
        found, converged = self.solver.iterate(whole)
        self.costs.worked += time.perf_counter() - begun
        progress.steps += 1
        progress.loss_sum, progress.loss_count = found, 1
        if not math.isfinite(found):
            return "diverged"
        most = train.iterations_max
        if most is not None and progress.steps >= most:
            return "iterations"
        return "converged" if converged else None

    def _chunk_loss(self, way: Pass, chunk: Chunk, number: int) -> tuple[Tensor, int]:
        """Return the loss of a chunk in training, and how much it stands for."""
        self.network.train()
        return self.loss.of_chunk(self.walker, chunk, way.marks(chunk, number), self.deviation)

    def _end_epoch(self, report: Listener, started: float) -> str | None:
        """Validate if it is due, tell, and return why the training ends now, if it does."""
        progress, pace, train = self.progress, self.task.pace, self.task.config.train
        over = progress.epoch + 1 >= pace.epochs
        frequency = train.validation_frequency
        due = (progress.epoch + 1) % pace.validate_every == 0
        if frequency is not None:
            due = progress.steps % frequency == 0
        valid = self._validate() if (due or over) and progress.validated < progress.steps else None
        ended = self._report(valid, True, started)
        progress.history.append(
            {"epoch": ended.epoch, "step": ended.step, "loss": ended.loss}
            | ({"valid": valid} if valid is not None else {})
        )
        progress.epoch, progress.chunk = progress.epoch + 1, 0
        progress.loss_sum, progress.loss_count = 0.0, 0
        stopped = report(ended)
        if train.loss_threshold is not None and ended.loss < train.loss_threshold:
            return "loss"
        if train.patience and progress.without_gain >= train.patience:
            return "patience"
        return "epochs" if over else "stopped" if stopped else None

    def _checkpoint_due(self) -> bool:
        every = self.task.config.train.checkpoint_every
        return every is not None and self.progress.epoch % every == 0

    def _validate(self) -> float | None:
        """Validate, keep the weights if they are the best so far, and return the loss."""
        progress = self.progress
        valid = validation_loss(self.task, self.network, self.loss)
        progress.validated, progress.newest = progress.steps, valid
        if valid is not None and valid < progress.best:
            self.best_weights, progress.best_epoch = self._weights(), progress.epoch
            progress.best, progress.without_gain = valid, 0
        elif valid is not None:
            progress.without_gain += 1
        return valid

    def _set_rates(self, done: float) -> None:
        """Set the rates for the share of the epochs, or of the iterations, that is done."""
        train = self.task.config.train
        if train.max_iterations is not None:
            done = max(done, self.progress.steps / train.max_iterations)
        self.rates = SCHEDULES[train.schedule](train, self.progress.epoch + 1, done)
        self.solver.set_rates(self.rates)

    def _heard(self, report: Listener, valid: float | None, started: float) -> bool:
        return bool(report(self._report(valid, False, started)))

    def _report(self, valid: float | None, ended: bool, started: float) -> Report:
        progress = self.progress
        loss = progress.loss_sum / max(1, progress.loss_count)
        seconds = time.monotonic() - started
        epochs, rate = self.task.pace.epochs, self.rates.lr
        return Report(progress.epoch + 1, epochs, progress.steps, loss, valid, ended, seconds, rate)

    def _weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.network.state_dict().items()}

    def _memory(self) -> state.Memory:
        return state.Memory(self.network, self.solver, self.walker.state, self.best_weights)
