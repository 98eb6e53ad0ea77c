"""What heads say: distributions against sums and integrals done by hand, responses, classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import MORE_SPECS, SPECS, inputs, network

from forecastd.config import TrainConfig
from forecastd.errors import ArtifactError, ConfigError, SpecError
from forecastd.network.distributions import (
    count_loss,
    count_quantiles,
    gaussian_loss,
    incomplete_beta,
    student_loss,
    student_quantiles,
)
from forecastd.network.expand import check_network
from forecastd.network.heads import HEADS, ClassesHead, CountHead, ResponsesHead
from forecastd.network.kinds.contract import Shape
from forecastd.network.model import ForecastNetwork
from forecastd.network.outputs import LOSSES, head_of_task, require_loss
from forecastd.network.shapes import weight_shapes
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.series import Frequency, Signature

LEVELS = torch.tensor([0.01, 0.1, 0.25, 0.5, 0.8, 0.975], dtype=torch.float64)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def count_probability(count: int, mean: float, dispersion: float) -> float:
    """The negative binomial, one count at a time."""
    size = 1 / dispersion
    logs = math.lgamma(count + size) - math.lgamma(size) - math.lgamma(count + 1)
    logs += size * math.log(size / (size + mean)) + count * math.log(mean / (size + mean))
    return math.exp(logs)


@pytest.mark.parametrize("dispersion", [1e-3, 0.3, 4.0])
@pytest.mark.parametrize("mean", [0.01, 0.7, 12.0, 400.0])
def test_quantiles_of_counts_are_the_least_that_suffice(mean: float, dispersion: float) -> None:
    found = count_quantiles(double(mean), double(dispersion), LEVELS)
    for level, count in zip(LEVELS.tolist(), found.tolist(), strict=True):
        upto = sum(count_probability(k, mean, dispersion) for k in range(int(count)))
        with_it = upto + count_probability(int(count), mean, dispersion)
        assert upto < level <= with_it + 1e-10


def test_large_counts_have_quantiles_as_well() -> None:
    found = count_quantiles(double(1e6), double(1e-3), LEVELS)
    deviation = math.sqrt(1e6 + 1e-3 * 1e12)
    expected = 1e6 + deviation * torch.special.ndtri(LEVELS)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("mean", [0.2, 30.0])
def test_the_loss_of_counts_is_minus_the_log_of_their_probability(mean: float) -> None:
    counts = torch.arange(6, dtype=torch.float64)
    found = count_loss(counts, double(mean), double(0.5))
    expected = [-math.log(count_probability(k, mean, 0.5)) for k in range(6)]
    torch.testing.assert_close(found, double(*expected), rtol=1e-12, atol=1e-12)


KNOWN_STUDENT = {1.0: 12.7062, 2.0: 4.30265, 5.0: 2.57058, 30.0: 2.04227, 1000.0: 1.96234}
"""The 97.5 % quantile by degrees of freedom, from the printed tables."""


def test_student_quantiles_are_those_of_the_tables() -> None:
    freedom = double(*KNOWN_STUDENT)
    found = student_quantiles(freedom, double(0.975))
    torch.testing.assert_close(found, double(*KNOWN_STUDENT.values()), rtol=3e-6, atol=0)
    torch.testing.assert_close(student_quantiles(freedom, double(0.025)), -found)
    assert torch.equal(student_quantiles(freedom, double(0.5)), torch.zeros(5).double())


@pytest.mark.parametrize("freedom", [2.1, 6.0, 80.0])
def test_the_student_density_adds_up_to_its_quantiles(freedom: float) -> None:
    high = student_quantiles(double(freedom), double(0.9)).item()
    grid = torch.linspace(0, high, 20_001, dtype=torch.float64)
    one = torch.ones_like(grid)
    density = (-student_loss(grid, 0 * one, one, freedom * one)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(0.4, abs=1e-7)


def test_a_quantile_is_the_same_to_the_last_bit_in_any_company() -> None:
    freedom, mean = torch.linspace(2, 90, 40), torch.logspace(-2, 3, 40)
    together = (
        student_quantiles(freedom, double(0.9)),
        count_quantiles(mean, double(0.3), double(0.9)),
    )
    for place in range(40):
        alone = student_quantiles(freedom[place], double(0.9))
        assert alone.item() == together[0][place].item()
        counted = count_quantiles(mean[place], double(0.3), double(0.9))
        assert counted.item() == together[1][place].item()


@given(a=st.integers(1, 30), b=st.integers(1, 30), x=st.floats(0.001, 0.999))
def test_incomplete_beta_of_whole_numbers_is_a_binomial_sum(a: int, b: int, x: float) -> None:
    trials = a + b - 1
    terms = (math.comb(trials, j) * x**j * (1 - x) ** (trials - j) for j in range(a, trials + 1))
    found = incomplete_beta(double(a), double(b), double(x), double(1 - x))
    assert found.item() == pytest.approx(math.fsum(terms), rel=1e-9, abs=1e-12)


def test_the_gaussian_loss_is_that_of_the_textbook() -> None:
    found = gaussian_loss(double(3.0), double(1.0), double(4.0)).item()
    normal = math.exp(-(((3 - 1) / 4) ** 2) / 2) / (4 * math.sqrt(2 * math.pi))
    assert found == pytest.approx(-math.log(normal))


def test_quantiles_of_student_and_gauss_agree_for_much_freedom() -> None:
    quantiles = (0.05, 0.5, 0.95)
    gauss = HEADS["gaussian"](4, HeadSpec("gaussian", 2, quantiles))
    student = HEADS["student_t"](4, HeadSpec("student_t", 2, quantiles))
    raw = torch.tensor([[1.5, 2.0], [-3.0, 0.1]])
    wide = torch.cat([raw, torch.full((2, 1), 1e5)], -1)
    torch.testing.assert_close(student.forecast(wide), gauss.forecast(raw), rtol=1e-3, atol=1e-4)


def test_counts_stay_counts_whatever_the_series_is() -> None:
    spec = MORE_SPECS["counts"]
    x = inputs(5, 20, 4, torch.float32)
    with torch.no_grad():
        made = network(spec, torch.float32)
        forecast, _ = made.unroll(x, made.initial_state(5))
    found = forecast.unscaled()
    assert torch.equal(found, found.round())
    assert (found >= 0).all()
    assert torch.equal(forecast.location, torch.zeros_like(forecast.location))


def test_a_count_s_mean_is_close_to_the_scaled_centre_away_from_zero() -> None:
    head = CountHead(3, HeadSpec("negative_binomial", 1, (0.5,)))
    raw = torch.tensor([[0.5, 1.0]])
    mean = head.placed(raw[None], double(1000.0), double(50.0))[0, 0, 0].item()
    assert mean == pytest.approx(1000 + 50 * 0.5, rel=1e-5)
    silent = head.placed(raw[None], double(0.0), double(1e-30))[0, 0, 0].item()
    assert 0 < silent < 0.2


@pytest.mark.shows("S4", "S33")
def test_responses_are_learned_in_deviations_and_given_in_units() -> None:
    head = ResponsesHead(2, HeadSpec("responses", 1, outputs=2, linear=False))
    head.fit(np.array([10.0, -5.0]), np.array([2.0, 0.0]))
    raw = head(torch.tensor([[1.5, 3.0]]), None)
    assert head.forecast(raw).tolist() == [[[13.0, -2.0]]]
    assert set(head.state_dict()) == {"location", "spread"}


@pytest.mark.shows("S3", "S31", "S32")
def test_a_softmax_layer_gives_the_probabilities_as_they_are() -> None:
    layers = [LayerSpec("fc", "fully_connected", {"size": 3}), LayerSpec("s", "softmax")]
    features = SPECS["gaussian"].features
    torch.manual_seed(0)
    plain = ForecastNetwork(NetworkSpec(features, (layers[0],), classes(linear=False)))
    torch.manual_seed(0)
    shares = ForecastNetwork(NetworkSpec(features, tuple(layers), classes(linear=False)))
    x = inputs(4, 6, 0, torch.float32)
    one, other = (net.unroll(x, net.initial_state(4))[0] for net in (plain, shares))
    assert isinstance(shares.head, ClassesHead)
    assert shares.head.takes_probabilities
    assert not plain.head.takes_probabilities
    torch.testing.assert_close(other.values, one.values)
    torch.testing.assert_close(other.raw, one.raw)
    torch.testing.assert_close(one.values.sum(-1), torch.ones(4, 6, 1))


def test_a_probability_of_nothing_has_a_finite_logarithm() -> None:
    head = ClassesHead(2, classes(linear=False))
    head.takes_probabilities = True
    assert torch.isfinite(head(torch.tensor([[0.0, 1.0]]), None)).all()


def classes(*, linear: bool) -> HeadSpec:
    return HeadSpec("classes", 1, outputs=3, linear=linear)


def signature(task: str, **more: object) -> Signature:
    common = ("id", "ds", "y", ("x",), (), Frequency.parse("1h"), 1, 1, ())
    return Signature(*common, task=task, **more)  # type: ignore[arg-type]


FULLY = LayerSpec("fc", "fully_connected", {"size": 3})


@pytest.mark.shows("S10")
@pytest.mark.parametrize(
    ("layers", "width", "linear"),
    [
        ((LayerSpec("lstm", "lstm"),), 3, True),
        ((LayerSpec("lstm", "lstm"), FULLY), 3, False),
        ((FULLY, LayerSpec("soft", "softmax")), 3, False),
        ((LayerSpec("fc", "fully_connected"),), 50, True),
        ((), 3, True),
    ],
)
def test_a_task_s_head_maps_unless_the_last_layer_does(
    layers: tuple[LayerSpec, ...], width: int, linear: bool
) -> None:
    labels = signature("classification", classes=("a", "b", "c"))
    found = head_of_task(labels, layers, Shape((width,)))
    assert found == HeadSpec("classes", 1, outputs=3, linear=linear)


def test_two_responses_are_two_outputs() -> None:
    found = head_of_task(signature("regression", more_targets=("z",)), (FULLY,), Shape((3,)))
    assert found == HeadSpec("responses", 1, outputs=2)


def test_a_softmax_of_another_size_is_told() -> None:
    layers = (LayerSpec("soft", "softmax"),)
    labels = signature("classification", classes=("a", "b", "c"))
    with pytest.raises(SpecError, match=r"'soft' .* 5 shares of 3 classes"):
        head_of_task(labels, layers, Shape((5,)))


WRONG = [
    HeadSpec("classes", 1, outputs=1),
    HeadSpec("classes", 2, outputs=3),
    HeadSpec("responses", 1, outputs=0),
    HeadSpec("responses", 1, (0.5,), outputs=1),
    HeadSpec("responses", 1, outputs=3, linear=False),
    HeadSpec("gaussian", 4),
    HeadSpec("gaussian", 4, (0.0, 0.5)),
    HeadSpec("quantile", 4, (0.5,), linear=False),
    HeadSpec("point", 5, linear=False),
    HeadSpec("point", 4, linear=1),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("head", WRONG, ids=str)
def test_a_head_that_cannot_be_is_told(head: HeadSpec) -> None:
    base = SPECS["gaussian"]
    with pytest.raises(ArtifactError):
        weight_shapes(NetworkSpec(base.features, base.layers, head))


@settings(max_examples=5)
@given(seed=st.integers(0, 99))
def test_a_point_head_may_take_the_last_layer_as_it_is(seed: int) -> None:
    torch.manual_seed(seed)
    head = HEADS["point"](4, HeadSpec("point", 4, linear=False))
    y = torch.randn(2, 4)
    assert torch.equal(head(y, None)[..., 0], y)


def test_every_head_has_losses() -> None:
    assert LOSSES.keys() == HEADS.keys()


def test_a_loss_is_checked_before_any_data_is_read() -> None:
    tables = {
        "data": {"path": "nowhere.parquet", "past": ["x"]},
        "task": {"kind": "classification"},
        "train": {"loss": "mse"},
    }
    with pytest.raises(ConfigError, match=r"train\.loss: mse cannot train the head classes"):
        check_network(TrainConfig.model_validate(tables))
    check_network(TrainConfig.model_validate(tables | {"train": {"loss": "cross-entropy"}}))


def test_a_loss_that_cannot_train_a_head_is_told() -> None:
    assert require_loss("responses", "auto") == "half-mse"
    with pytest.raises(ConfigError, match="mse cannot train the head classes"):
        require_loss("classes", "mse")
