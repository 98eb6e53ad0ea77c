"""Solvers: gradients in, changed weights out, and what they remember between two steps.

The L2 penalty is added to the gradient first, then the threshold holds it down, then the solver
takes its step. adamw alone decays weights beside the gradient (Loshchilov & Hutter 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from forecastd.train_settings import TrainSettings
from forecastd.training.clipping import clip_gradients
from forecastd.training.factors import Trained, require_plain
from forecastd.training.schedule import Rates

MOMENTUM = 0.9
"""Where neither the settings nor the schedule say otherwise."""
LINE_SEARCHES_MAX = 26
LISTS, SCRATCH = ("old_dirs", "old_stps", "ro"), "al"
"""What L-BFGS remembers of several steps, and room that it works in."""


class Sgdm(torch.optim.Optimizer):
    """Stochastic gradient descent with momentum: w <- w - lr g + momentum (w - w before).

    What is remembered is the whole step, so a changed learning rate does not change the steps that
    were taken before; torch's own SGD remembers gradients.
    """

    def __init__(self, groups: Any, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that there are."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                memory = self.state[parameter]
                if not memory:
                    memory["moved"] = torch.zeros_like(parameter)
                moved = memory["moved"].mul_(group["momentum"])
                parameter.add_(moved.sub_(parameter.grad, alpha=group["lr"]))


class Solver:
    """Changes weights by their gradients. trained: the parameters, with their factors.

    A factor for all of a parameter is a learning rate of its own. One by row is what the step is
    multiplied with: an Adam-like step does not depend on the scale of the gradient.
    """

    full_batch = False

    def __init__(self, trained: Sequence[Trained], train: TrainSettings) -> None:
        self.trained = trained
        self._train = train
        whole = [t.rate if isinstance(t.rate, float) else 1.0 for t in trained]
        rates = sorted(set(whole), key=whole.index)
        groups = [
            {"params": [t.parameter for t, own in zip(trained, whole, strict=True) if own == rate]}
            for rate in rates
        ]
        self.optimizer = _OPTIMIZERS[train.solver](groups, train)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["factor"] = rate
        self._by_row = [t for t in trained if isinstance(t.rate, Tensor)]

    def set_rates(self, rates: Rates) -> None:
        """Take the rates of the schedule; a momentum that the settings give stays as it is."""
        train = self._train
        for group in self.optimizer.param_groups:
            group["lr"] = rates.lr * group["factor"]
            if "betas" in group:
                first = _first(train.gradient_decay, rates.momentum, MOMENTUM)
                group["betas"] = (first, train.squares_decay)
            elif train.solver == "sgdm":
                group["momentum"] = _first(train.momentum, rates.momentum, MOMENTUM)

    def forget_gradients(self) -> None:
        """Drop all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Take one step with the gradients of the loss."""
        train = self._train
        if train.solver != "adamw":
            add_penalty(self.trained, train.decay)
        clip_gradients([t.parameter for t in self.trained], train.clip, train.clip_method)
        before = [t.parameter.detach().clone() for t in self._by_row]
        self.optimizer.step()
        with torch.no_grad():
            for one, old in zip(self._by_row, before, strict=True):
                one.parameter.copy_(old + one.rate * (one.parameter - old))

    def memory(self) -> dict[str, Tensor]:
        """Return what is remembered, by dotted name."""
        return _flat(self.optimizer, self.trained)

    def remember(self, flat: dict[str, Tensor]) -> None:
        """Take back what `memory` returned. Raises KeyError when it is not of this network."""
        _fill(self.optimizer, self.trained, flat)


class FullBatchSolver:
    """L-BFGS over the whole training part at once (Nocedal 1980), with strong Wolfe steps."""

    full_batch = True

    def __init__(self, trained: Sequence[Trained], train: TrainSettings) -> None:
        require_plain(trained, train.solver)
        self.trained = trained
        self._train = train
        self.optimizer = torch.optim.LBFGS(
            [t.parameter for t in trained],
            lr=train.rate,
            max_iter=1,
            max_eval=LINE_SEARCHES_MAX,
            tolerance_grad=train.gradient_tolerance,
            tolerance_change=0.0,  # steps are looked at here
            history_size=train.history,
            line_search_fn="strong_wolfe",
        )

    def set_rates(self, rates: Rates) -> None:
        """Do nothing: a search along the line finds each step."""

    def forget_gradients(self) -> None:
        """Drop all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def iterate(self, loss: Callable[[], float]) -> tuple[float, bool]:
        """Take one step. Return the loss before it, and whether there is nothing more to gain.

        loss: returns the loss of the whole training part at the weights of now, and leaves its
        gradients; it must be the same number for the same weights.
        """
        before = [t.parameter.detach().clone() for t in self.trained]

        def penalised() -> float:
            self.forget_gradients()
            found = loss()
            penalty = penalty_of(self.trained, self._train.decay)
            add_penalty(self.trained, self._train.decay)
            return found + penalty

        found = cast(float, self.optimizer.step(penalised))  # type: ignore[no-untyped-call]
        moved = [
            float((t.parameter.detach() - old).abs().max()) if old.numel() else 0.0
            for t, old in zip(self.trained, before, strict=True)
        ]
        return found, max(moved) <= self._train.step_tolerance

    def memory(self) -> dict[str, Tensor]:
        """Return what is remembered, by dotted name."""
        return _flat(self.optimizer, self.trained)

    def remember(self, flat: dict[str, Tensor]) -> None:
        """Take back what `memory` returned. Raises KeyError when it is not of this network."""
        _fill(self.optimizer, self.trained, flat)


def solver_of(trained: Sequence[Trained], train: TrainSettings) -> Solver | FullBatchSolver:
    """Return the solver that the settings name. Raises ConfigError where the rates do not suit."""
    if train.solver == "lbfgs":
        return FullBatchSolver(trained, train)
    return Solver(trained, train)


@torch.no_grad()
def add_penalty(trained: Sequence[Trained], decay: float) -> None:
    """Add the gradient of the L2 penalty, decay * factor * weight, to the gradients."""
    for one in trained:
        if decay and one.parameter.grad is not None and _any(one.penalty):
            one.parameter.grad.add_(one.parameter * one.penalty, alpha=decay)


@torch.no_grad()
def penalty_of(trained: Sequence[Trained], decay: float) -> float:
    """Return the L2 penalty, decay / 2 * the sum of factor * weight squared."""
    sums = (float((t.penalty * t.parameter.square()).sum().double()) for t in trained)
    return decay / 2 * sum(sums) if decay else 0.0


def _adamw(groups: Any, train: TrainSettings) -> torch.optim.Optimizer:
    betas = (MOMENTUM, train.squares_decay)
    return torch.optim.AdamW(
        groups, lr=train.rate, betas=betas, eps=train.epsilon, weight_decay=train.decay
    )


def _adam(groups: Any, train: TrainSettings) -> torch.optim.Optimizer:
    betas = (MOMENTUM, train.squares_decay)
    return torch.optim.Adam(groups, lr=train.rate, betas=betas, eps=train.epsilon)


def _rmsprop(groups: Any, train: TrainSettings) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=train.rate, alpha=train.squares_decay, eps=train.epsilon)


def _sgdm(groups: Any, train: TrainSettings) -> torch.optim.Optimizer:
    return Sgdm(groups, train.rate, MOMENTUM)


_OPTIMIZERS: dict[str, Callable[[Any, TrainSettings], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "rmsprop": _rmsprop,
    "sgdm": _sgdm,
}


def _first(*choices: float | None) -> float:
    return next(choice for choice in choices if choice is not None)


def _any(factor: float | Tensor) -> bool:
    return isinstance(factor, Tensor) or factor != 0


def _flat(optimizer: torch.optim.Optimizer, trained: Sequence[Trained]) -> dict[str, Tensor]:
    """Return the memory of an optimiser as tensors: "parameter:field", lists with numbers.

    Numbers of Python become float64 or int64 without an axis, which weights never are.
    """
    flat: dict[str, Tensor] = {}
    for one in trained:
        for field, value in optimizer.state.get(one.parameter, {}).items():
            if field in LISTS:
                flat |= {f"{one.name}:{field}:{n}": v for n, v in enumerate(value)}
            elif field != SCRATCH:
                flat[f"{one.name}:{field}"] = _tensor(value)
    return flat


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)


def _fill(
    optimizer: torch.optim.Optimizer, trained: Sequence[Trained], flat: dict[str, Tensor]
) -> None:
    by_name = {one.name: one.parameter for one in trained}
    lists: dict[tuple[str, str], dict[int, Tensor]] = {}
    found: dict[str, dict[str, Any]] = {}
    for key, tensor in flat.items():
        name, field, *number = key.split(":")
        if number:
            lists.setdefault((name, field), {})[int(number[0])] = tensor.to(by_name[name].device)
        else:
            found.setdefault(name, {})[field] = _placed(tensor, field, by_name[name])
    for name, memory in found.items():
        for field in LISTS if "n_iter" in memory else ():
            numbered = lists.get((name, field), {})
            memory[field] = [numbered[n] for n in sorted(numbered)]
        optimizer.state[by_name[name]] = memory


def _placed(tensor: Tensor, field: str, parameter: Tensor) -> Any:
    """Return a tensor on the device of its parameter, or the number that it stands for."""
    if field == "step":
        return tensor  # torch counts on the CPU
    if tensor.ndim == 0 and tensor.dtype in {torch.int64, torch.float64}:
        return tensor.item()
    return tensor.to(parameter.device)
