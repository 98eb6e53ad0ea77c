from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from forecastd.errors import ConfigError
from forecastd.network.heads import HEADS
from forecastd.network.losses import LossOptions, errors_of
from forecastd.network.model import Forecast
from forecastd.network.outputs import LOSSES
from forecastd.network.spec import HeadSpec

NAN = float("nan")
QUANTILES = (0.1, 0.5, 0.75)


def said(head: HeadSpec, raw: Tensor, location: float = 0.0, spread: float = 1.0) -> Forecast:
    """Return a forecast as a network gives it, [B, T', horizon, P]."""
    shape = raw.shape[:2]
    where = torch.full(shape, location, dtype=torch.float64)
    return Forecast(raw, where, torch.full_like(where, spread), HEADS[head.kind](3, head))


def naive(
    forecast: np.ndarray, target: np.ndarray, quantiles: tuple[float, ...], weight: np.ndarray
) -> float:
    """Twice the pinball loss, one value at a time, as in the textbook."""
    total, count = 0.0, 0
    for step in range(target.shape[0]):
        for ahead in range(target.shape[1]):
            truth = target[step, ahead]
            if np.isnan(truth):
                continue
            count += weight[step] > 0
            losses = []
            for place, level in enumerate(quantiles):
                error = truth - forecast[step, ahead, place]
                losses.append(level * error if error >= 0 else (level - 1) * error)
            total += 2 * weight[step] * sum(losses) / len(losses)
    return total / max(1, count)


@given(seed=st.integers(0, 10_000), steps=st.integers(1, 6), horizon=st.integers(1, 5))
def test_the_loss_of_quantiles_is_the_pinball_loss(seed: int, steps: int, horizon: int) -> None:
    dice = np.random.default_rng(seed)
    forecast = dice.normal(size=(1, steps, horizon, 3))
    target = dice.normal(size=(1, steps, horizon))
    target[dice.random(target.shape) < 0.3] = np.nan
    weight = np.where(dice.random(steps) < 0.3, 0, dice.random(steps))
    head = HeadSpec("quantile", horizon, QUANTILES)
    errors, known = errors_of(head)(
        said(head, torch.from_numpy(forecast)), torch.from_numpy(target)
    )
    assert errors.isfinite().all()
    count = (known & (torch.from_numpy(weight)[:, None] > 0)).sum().clamp(min=1)
    found = (errors * known * torch.from_numpy(weight)[:, None]).sum() / count
    expected = naive(forecast[0], target[0], QUANTILES, weight)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["auto", "mae"])
def test_a_point_is_learned_by_its_absolute_error(loss: str) -> None:
    head = HeadSpec("point", 2)
    forecast = said(head, torch.tensor([[[[1.0], [5.0]]]]))
    errors, known = errors_of(head, loss)(forecast, torch.tensor([[[4.0, NAN]]]))
    assert errors[known].tolist() == [3.0]
    assert known.tolist() == [[[True, False]]]


def test_targets_are_scaled_as_the_series_is() -> None:
    head = HeadSpec("point", 1)
    forecast = said(head, torch.tensor([[[[1.0]]]]), location=100.0, spread=10.0)
    assert errors_of(head)(forecast, torch.tensor([[[140.0]]]))[0].item() == pytest.approx(3)
    assert errors_of(head, "mse")(forecast, torch.tensor([[[140.0]]]))[0].item() == pytest.approx(9)


POINT_LOSSES = {"mae": 3.0, "mse": 9.0, "half-mse": 4.5, "huber": 2 * (3 - 1.0)}


@pytest.mark.shows("S86")
@pytest.mark.parametrize("loss", POINT_LOSSES)
def test_losses_of_a_point_are_their_formulas(loss: str) -> None:
    head = HeadSpec("point", 1)
    errors, _ = errors_of(head, loss, LossOptions(delta=2.0))(
        said(head, torch.tensor([[[[1.0]]]])), torch.tensor([[[4.0]]])
    )
    assert errors.item() == pytest.approx(POINT_LOSSES[loss])


def responses(found: list[float], location: list[float], spread: list[float]) -> Forecast:
    head = HeadSpec("responses", 1, outputs=len(found))
    return said(head, torch.tensor([[[found + location + spread]]]))


@pytest.mark.shows("S4", "S9", "S33", "S86")
@pytest.mark.trap(31)
def test_half_mse_adds_up_the_responses_and_mse_averages_them() -> None:
    forecast = responses([1.0, 2.0, 0.0], [0.0] * 3, [1.0] * 3)
    target = torch.tensor([[[2.0, 4.0, 3.0]]])
    squares = 1 + 4 + 9
    head = HeadSpec("responses", 1, outputs=3)
    assert errors_of(head)(forecast, target)[0].item() == pytest.approx(squares / 2)
    assert errors_of(head, "half-mse")(forecast, target)[0].item() == pytest.approx(squares / 2)
    assert errors_of(head, "mse")(forecast, target)[0].item() == pytest.approx(squares / 3)
    assert errors_of(head, "mae")(forecast, target)[0].item() == pytest.approx(6 / 3)
    plain = torch.nn.MSELoss()(torch.tensor([1.0, 2.0, 0.0]), target[0, 0])
    assert errors_of(head)(forecast, target)[0].item() == pytest.approx(plain.item() * 3 / 2)


def test_responses_are_compared_in_deviations() -> None:
    forecast = responses([0.0, 1.0], [100.0, 0.0], [10.0, 5.0])
    head = HeadSpec("responses", 1, outputs=2)
    errors, _ = errors_of(head)(forecast, torch.tensor([[[120.0, 10.0]]]))
    assert errors.item() == pytest.approx(0.5 * (2**2 + 1**2))


def test_a_missing_response_leaves_the_others() -> None:
    forecast = responses([0.0, 1.0], [0.0, 0.0], [1.0, 1.0])
    head = HeadSpec("responses", 1, outputs=2)
    for loss, expected in {"half-mse": 2.0, "mse": 4.0}.items():
        errors, known = errors_of(head, loss)(forecast, torch.tensor([[[NAN, 3.0]]]))
        assert errors.item() == pytest.approx(expected)
        assert known.item()
    errors, known = errors_of(head)(forecast, torch.full((1, 1, 2), NAN))
    assert errors.item() == 0
    assert not known.item()


@pytest.mark.shows("S3", "S7", "S32", "S86")
@given(seed=st.integers(0, 1000))
def test_cross_entropy_is_torch_s(seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 6, 1, 5, generator=dice).log_softmax(-1)
    codes = torch.randint(5, (4, 6, 1), generator=dice)
    head = HeadSpec("classes", 1, outputs=5)
    errors, known = errors_of(head)(said(head, scores), codes.float())
    expected = functional.cross_entropy(scores[..., 0, :].movedim(-1, 1), codes[..., 0])
    assert errors.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    assert known.all()


@pytest.mark.shows("S32")
@pytest.mark.trap(32)
def test_class_weights_are_not_divided_by_their_sum() -> None:
    head = HeadSpec("classes", 1, outputs=2)
    scores = torch.tensor([0.25, 0.75]).log().expand(1, 4, 1, 2)
    codes = torch.tensor([[[0.0], [1.0], [1.0], [NAN]]])
    errors, known = errors_of(head, options=LossOptions(class_weights=(3.0, 0.5)))(
        said(head, scores), codes
    )
    by_count = (errors * known).sum() / known.sum()
    expected = -(3 * math.log(0.25) + 2 * 0.5 * math.log(0.75)) / 3
    assert by_count.item() == pytest.approx(expected, rel=1e-6)
    weight = torch.tensor([3.0, 0.5])
    theirs = functional.cross_entropy(scores[0, :3, 0], codes[0, :3, 0].long(), weight=weight)
    assert theirs.item() == pytest.approx(expected * 3 / (3 + 0.5 + 0.5), rel=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "student_t", "negative_binomial"])
def test_likelihoods_fall_towards_the_truth(kind: str) -> None:
    head = HeadSpec(kind, 1, QUANTILES)
    parameters = torch.tensor([1.0, 1.0, 5.0] if kind == "student_t" else [1.0, 1.0])
    parameters = parameters.expand(1, 3, 1, -1).clone()
    parameters[0, :, 0, 0] = torch.tensor([1.0, 3.0, 9.0])
    parameters.requires_grad_()
    errors, known = errors_of(head)(said(head, parameters), torch.full((1, 3, 1), 3.0))
    assert known.all()
    assert errors.argmin().item() == 1
    errors.sum().backward()
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()


@pytest.mark.parametrize("kind", LOSSES)
def test_missing_targets_give_no_gradient_and_no_nan(kind: str) -> None:
    width = {"student_t": 3, "gaussian": 2, "negative_binomial": 2, "quantile": 3}.get(kind, 1)
    outputs = {"responses": 1, "classes": 3}.get(kind, 0)
    head = HeadSpec(kind, 1, () if outputs or kind == "point" else QUANTILES, 0, outputs)
    raw = torch.full((1, 2, 1, max(width, 3 if outputs else 1)), 1.5, requires_grad=True)
    target = torch.tensor([[[NAN], [1.0]]])
    for loss in LOSSES[kind]:
        raw.grad = None
        errors, known = errors_of(head, loss)(said(head, raw), target)
        assert known.flatten().tolist() == [False, True]
        (errors * known).sum().backward()
        assert raw.grad is not None
        assert raw.grad[0, 0].abs().sum() == 0
        assert raw.grad[0, 1].abs().sum() > 0
        assert errors.isfinite().all()


@pytest.mark.parametrize(("kind", "power"), [("point", 1), ("gaussian", 0), ("classes", 0)])
def test_a_loss_tells_how_it_grows_with_the_scale(kind: str, power: int) -> None:
    outputs = 3 if kind == "classes" else 0
    assert errors_of(HeadSpec(kind, 1, (0.5,), 0, outputs)).power == power
    assert errors_of(HeadSpec("point", 1), "mse").power == 2


@pytest.mark.parametrize(
    "kind", ["point", "quantile", "gaussian", "student_t", "negative_binomial"]
)
def test_a_series_without_spread_has_finite_errors_and_gradients(kind: str) -> None:
    """Its steps may weigh nothing, and nothing times infinity would be no number."""
    head = HeadSpec(kind, 1, () if kind == "point" else QUANTILES)
    width = {"point": 1, "gaussian": 2, "negative_binomial": 2}.get(kind, 3)
    raw = torch.ones((1, 1, 1, width), requires_grad=True)
    spread = 1.0 if kind == "negative_binomial" else 1e-30
    for loss in LOSSES[kind]:
        errors, _ = errors_of(head, loss)(said(head, raw, 0.0, spread), torch.full((1, 1, 1), 7.0))
        (errors * 0).sum().backward()
        assert raw.grad is not None
        assert raw.grad.isfinite().all()


def test_an_unfitting_loss_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"train\.loss: huber cannot train the head quantile"):
        errors_of(HeadSpec("quantile", 1, QUANTILES), "huber")
