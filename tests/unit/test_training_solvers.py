"""Each solver against its formula, written out in numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from forecastd.errors import ConfigError
from forecastd.train_settings import TrainSettings
from forecastd.training.clipping import clip_gradients
from forecastd.training.factors import Trained
from forecastd.training.schedule import SCHEDULES, Rates
from forecastd.training.solvers import FullBatchSolver, Solver, solver_of

START = (2.0, -3.0, 0.5)
CURVE = (1.0, 0.3, 5.0)
"""The loss is half the sum of curve * weight squared, so the gradient is curve * weight."""


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"schedule": "constant", "clip": 0.0, **values})


def weights(rate: float | Tensor = 1.0, penalty: float | Tensor = 1.0) -> Trained:
    return Trained("w", nn.Parameter(torch.tensor(START, dtype=torch.float64)), rate, penalty)


def run(trained: Trained, train: TrainSettings, steps: int, rates: Rates | None = None) -> Solver:
    """Take steps on the quadratic."""
    solver = solver_of([trained], train)
    assert isinstance(solver, Solver)
    for _ in range(steps):
        solver.set_rates(rates or SCHEDULES[train.schedule](train, 1, 0.0))
        solver.forget_gradients()
        (torch.tensor(CURVE, dtype=torch.float64) * trained.parameter**2 / 2).sum().backward()
        solver.step()
    return solver


def by_hand(
    move: Callable[[float, float, int, dict[str, float]], float], decay: float, steps: int
) -> list[float]:
    """Return the weights after steps of one formula. move(weight, gradient, t, memory)."""
    found = []
    for start, curve in zip(START, CURVE, strict=True):
        weight, memory = start, dict.fromkeys(("m", "v", "moved"), 0.0)
        for t in range(1, steps + 1):
            weight = move(weight, (curve + decay) * weight, t, memory)
        found.append(weight)
    return found


def adam_step(gradient: float, t: int, memory: dict[str, float], second: float) -> float:
    memory["m"] = 0.9 * memory["m"] + 0.1 * gradient
    memory["v"] = second * memory["v"] + (1 - second) * gradient**2
    mean, square = memory["m"] / (1 - 0.9**t), memory["v"] / (1 - second**t)
    return mean / (math.sqrt(square) + 1e-8)


@pytest.mark.shows("S41")
@pytest.mark.trap(29)
@pytest.mark.parametrize("l2", [0.0, 1e-4, 0.1])
def test_adam_has_its_penalty_in_the_gradient(l2: float) -> None:
    one = weights()
    run(one, settings(solver="adam", lr=0.05, l2=l2), 7)
    expected = by_hand(lambda w, g, t, m: w - 0.05 * adam_step(g, t, m, 0.999), l2, 7)
    np.testing.assert_allclose(one.parameter.detach().numpy(), expected, rtol=1e-12)


def test_adamw_decays_beside_the_gradient() -> None:
    one = weights()
    run(one, settings(lr=0.05, weight_decay=0.1), 7)
    expected = by_hand(
        lambda w, g, t, m: w * (1 - 0.05 * 0.1) - 0.05 * adam_step(g, t, m, 0.999), 0, 7
    )
    np.testing.assert_allclose(one.parameter.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.shows("S41")
@pytest.mark.trap(30)
def test_rmsprop_forgets_squares_by_a_tenth() -> None:
    def move(weight: float, gradient: float, t: int, memory: dict[str, float]) -> float:
        memory["v"] = 0.9 * memory["v"] + 0.1 * gradient**2
        return weight - 0.001 * gradient / (math.sqrt(memory["v"]) + 1e-8)

    one = weights()
    run(one, settings(solver="rmsprop", l2=0.0), 7)
    np.testing.assert_allclose(one.parameter.detach().numpy(), by_hand(move, 0, 7), rtol=1e-12)


@pytest.mark.shows("S41")
@pytest.mark.trap(30)
def test_sgdm_adds_nine_tenths_of_the_step_before() -> None:
    def move(weight: float, gradient: float, t: int, memory: dict[str, float]) -> float:
        memory["moved"] = -0.01 * gradient + 0.9 * memory["moved"]
        return weight + memory["moved"]

    one = weights()
    run(one, settings(solver="sgdm"), 7)
    np.testing.assert_allclose(one.parameter.detach().numpy(), by_hand(move, 1e-4, 7), rtol=1e-12)


def test_the_step_before_keeps_its_length_when_the_rate_of_sgdm_drops() -> None:
    one = weights()
    solver = Solver([one], settings(solver="sgdm", l2=0.0))
    for rate in (0.1, 0.01):
        solver.set_rates(Rates(rate))
        one.parameter.grad = torch.ones_like(one.parameter)
        solver.step()
    expected = np.array(START) - 0.1 - (0.01 + 0.9 * 0.1)
    np.testing.assert_allclose(one.parameter.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.shows("S41")
def test_lbfgs_finds_the_minimum_and_says_so() -> None:
    one = weights()
    solver = solver_of([one], settings(solver="lbfgs", l2=0.5, step_tolerance=1e-9))
    assert isinstance(solver, FullBatchSolver)
    minimum = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)

    def loss() -> float:
        found = (torch.tensor(CURVE) * (one.parameter - minimum) ** 2 / 2).sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found.item()

    steps, converged = 0, False
    while not converged and steps < 50:
        _, converged = solver.iterate(loss)
        steps += 1
    curve = np.array(CURVE)
    expected = curve * minimum.numpy() / (curve + 0.5)  # where the penalty holds the balance
    np.testing.assert_allclose(one.parameter.detach().numpy(), expected, atol=1e-5)
    assert 2 < steps < 20


def test_lbfgs_never_goes_up_on_a_bent_valley() -> None:
    point = Trained("w", nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64)), 1.0, 0.0)
    solver = FullBatchSolver([point], settings(solver="lbfgs"))

    def loss() -> float:
        x, y = point.parameter
        found = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        found.backward()
        return float(found.item())

    losses = [solver.iterate(loss)[0] for _ in range(40)]
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(losses))
    np.testing.assert_allclose(point.parameter.detach().numpy(), [1, 1], atol=1e-3)


@pytest.mark.parametrize("solver", ["adamw", "adam", "sgdm", "rmsprop"])
@given(rate=st.floats(-2, 2), steps=st.integers(1, 4))
def test_a_factor_multiplies_the_learning_rate(solver: Any, rate: float, steps: int) -> None:
    one, other = weights(rate), weights()
    run(one, settings(solver=solver, lr=0.01), steps)
    run(other, settings(solver=solver, lr=0.01), steps, Rates(0.01 * rate))
    torch.testing.assert_close(one.parameter, other.parameter, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("solver", ["adamw", "adam", "sgdm", "rmsprop"])
def test_factors_by_row_are_those_of_separate_parameters(solver: Any) -> None:
    rates = (1.0, 0.0, -0.5)
    one = weights(torch.tensor(rates, dtype=torch.float64))
    run(one, settings(solver=solver, lr=0.01), 5)
    for place, rate in enumerate(rates):
        other = weights(rate)
        run(other, settings(solver=solver, lr=0.01), 5)
        assert one.parameter[place].item() == pytest.approx(other.parameter[place].item(), 1e-12)
    assert one.parameter[1].item() == START[1]


@pytest.mark.trap(29)
def test_penalties_by_row_leave_out_what_has_none() -> None:
    one = weights(penalty=torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))
    solver = Solver([one], settings(solver="sgdm", l2=0.1, lr=1.0, momentum=0.0))
    one.parameter.grad = torch.zeros_like(one.parameter)
    solver.step()
    expected = np.array(START) * (1 - 0.1 * np.array([1, 0, 2]))
    np.testing.assert_allclose(one.parameter.detach().numpy(), expected, rtol=1e-12)


def test_the_penalty_is_added_before_the_threshold() -> None:
    one = weights()
    train = settings(solver="sgdm", l2=0.1, lr=1.0, momentum=0.0, clip=0.01)
    solver = Solver([one], train)
    one.parameter.grad = torch.zeros_like(one.parameter)
    solver.step()
    step = one.parameter.detach().numpy() - np.array(START)
    assert np.linalg.norm(step) == pytest.approx(0.01, rel=1e-3)


def test_the_momentum_of_the_settings_outdoes_the_schedule() -> None:
    for given_one, expected in ((None, 0.95), (0.5, 0.5)):
        train = settings(solver="sgdm", schedule="onecycle", momentum=given_one)
        solver = run(weights(), train, 1)
        assert solver.optimizer.param_groups[0]["momentum"] == expected


@pytest.mark.parametrize("solver", ["adamw", "adam", "sgdm", "rmsprop"])
def test_what_is_remembered_comes_back_to_the_bit(solver: Any) -> None:
    train = settings(solver=solver)
    whole = weights(torch.tensor([1.0, 2.0, 0.5]))
    run(whole, train, 6)
    first = weights(torch.tensor([1.0, 2.0, 0.5]))
    half = run(first, train, 3)
    second = Trained("w", nn.Parameter(first.parameter.detach().clone()), first.rate, 1.0)
    other = Solver([second], train)
    other.remember({name: tensor.clone() for name, tensor in half.memory().items()})
    for _ in range(3):
        other.set_rates(Rates(train.rate))
        other.forget_gradients()
        (torch.tensor(CURVE, dtype=torch.float64) * second.parameter**2 / 2).sum().backward()
        other.step()
    assert second.parameter.detach().numpy().tobytes() == (
        whole.parameter.detach().numpy().tobytes()
    )


def test_lbfgs_needs_one_rate_for_all() -> None:
    with pytest.raises(ConfigError, match=r"w/ has a learning rate of its own"):
        solver_of([weights(0.5)], settings(solver="lbfgs"))


GRADIENTS = [[3.0, 4.0], [0.3], [-6.0, 8.0, 0.0]]


@pytest.mark.shows("S41")
@pytest.mark.trap(28)
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("l2norm", [[1.2, 1.6], [0.3], [-1.2, 1.6, 0.0]]),
        ("absolute-value", [[2.0, 2.0], [0.3], [-2.0, 2.0, 0.0]]),
        ("global-l2norm", [[v * 2 / math.sqrt(125.09) for v in row] for row in GRADIENTS]),
    ],
)
def test_three_ways_to_hold_gradients_below_two(method: str, expected: list[list[float]]) -> None:
    parameters = [nn.Parameter(torch.zeros(len(row), dtype=torch.float64)) for row in GRADIENTS]
    for parameter, row in zip(parameters, GRADIENTS, strict=True):
        parameter.grad = torch.tensor(row, dtype=torch.float64)
    clip_gradients([*parameters, nn.Parameter(torch.ones(2))], 2.0, method)
    for parameter, row in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), row, rtol=1e-6)


@given(
    rows=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4), min_size=1, max_size=4),
    method=st.sampled_from(["l2norm", "absolute-value", "global-l2norm"]),
    threshold=st.floats(0.1, 100),
)
def test_nothing_passes_the_threshold_and_what_is_below_stays(
    rows: list[list[float]], method: str, threshold: float
) -> None:
    parameters = [nn.Parameter(torch.zeros(len(row), dtype=torch.float64)) for row in rows]
    for parameter, row in zip(parameters, rows, strict=True):
        parameter.grad = torch.tensor(row, dtype=torch.float64)

    def sizes() -> np.ndarray:
        found = [parameter.grad.numpy() for parameter in parameters if parameter.grad is not None]
        if method == "absolute-value":
            return np.concatenate([np.abs(part) for part in found])
        each = np.array([np.linalg.norm(part) for part in found])
        return each if method == "l2norm" else np.array([np.linalg.norm(each)])

    before = sizes()
    clip_gradients(parameters, threshold, method)
    after = sizes()
    assert (after <= threshold * (1 + 1e-9)).all()
    below = before < threshold * 0.999
    np.testing.assert_allclose(after[below], before[below], rtol=1e-6)


def test_a_threshold_of_zero_is_none() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.full((1,), 1e9)
    clip_gradients([parameter], 0.0, "global-l2norm")
    assert parameter.grad.item() == 1e9
