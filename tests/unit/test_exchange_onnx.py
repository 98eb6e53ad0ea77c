"""A step as an ONNX graph is the network's step, its states carried."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from models import example, model
from networks import SPECS, SUPERVISED_SPECS, network
from typer.testing import CliRunner

from forecast_cli.main import app
from forecastd import artifact
from forecastd.errors import UserError
from forecastd.exchange.inputs import input_names
from forecastd.exchange.onnx_check import difference, difference_of_all
from forecastd.exchange.onnx_step import export_step
from forecastd.features.encoder import Inputs
from forecastd.features.scaling import ScaleState
from forecastd.features.spec import FeatureSpec
from forecastd.network.model import weights_of
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec

FEATURES = FeatureSpec(3, (), 9.0, 0, 0, (4,))
FRAMES = FeatureSpec(24, (), 9.0, 0, 0, (4,), "none", ("value",), (4, 3, 2))
POINT = HeadSpec("point", 2, (), 0)

BODIES: dict[str, tuple[LayerSpec, ...]] = {
    "last": (LayerSpec("a", "lstm", {"hidden": 4, "output": "last"}),),
    "activations": (
        LayerSpec(
            "a",
            "lstm",
            {"hidden": 4, "state_activation": "softsign", "gate_activation": "hard-sigmoid"},
        ),
    ),
    "gru": (LayerSpec("a", "gru", {"hidden": 4}),),
    "gru_before": (LayerSpec("a", "gru", {"hidden": 4, "reset": "before-multiplication"}),),
    "gru_bias": (
        LayerSpec("a", "gru", {"hidden": 4, "reset": "recurrent-bias-after-multiplication"}),
    ),
    "gru_relu": (LayerSpec("a", "gru", {"hidden": 4, "state_activation": "relu"}),),
    "peephole": (LayerSpec("a", "peephole_lstm", {"hidden": 4}),),
    "projected": (
        LayerSpec(
            "a", "projected_lstm", {"hidden": 4, "input_projector": 2, "output_projector": 3}
        ),
    ),
    "causal": (
        LayerSpec("c", "conv1d", {"size": 3, "filters": 4, "dilation": 2, "padding": "causal"}),
        LayerSpec("r", "relu"),
        LayerSpec("n", "layer_norm"),
        LayerSpec("b", "batch_norm"),
        LayerSpec("d", "dropout"),
        LayerSpec("f", "fully_connected", {"size": 5}),
        LayerSpec("l", "lstm", {"hidden": 4}),
    ),
    "branches": (
        LayerSpec("a", "lstm", {"hidden": 4, "state_outputs": True}),
        LayerSpec("b", "gru", {"hidden": 4}, {"in": "input"}),
        LayerSpec("sum", "addition", {}, {"one": "a", "two": "b"}),
        LayerSpec("both", "concatenation", {}, {"one": "sum", "two": "a"}),
        LayerSpec("s", "softmax"),
    ),
    "nothing": (),
}
VIDEO = (
    LayerSpec("fold", "folding"),
    LayerSpec("c", "conv2d", {"size": [2, 2], "filters": 3, "padding": "same"}),
    LayerSpec("b", "batch_norm"),
    LayerSpec("n", "layer_norm"),
    LayerSpec("r", "relu"),
    LayerSpec("u", "unfolding", {}, {"in": "r", "mini_batch_size": "fold/mini_batch_size"}),
    LayerSpec("flat", "flatten"),
    LayerSpec("a", "lstm", {"hidden": 4}),
)
ALL_SPECS = {
    **SPECS,
    **SUPERVISED_SPECS,
    **{name: NetworkSpec(FEATURES, layers, POINT) for name, layers in BODIES.items()},
    "video": NetworkSpec(FRAMES, VIDEO, POINT),
    "scores": NetworkSpec(
        FEATURES,
        (LayerSpec("f", "fully_connected", {"size": 3}), LayerSpec("s", "softmax")),
        HeadSpec("classes", 1, (), 0, 3, linear=False),
    ),
    "one_side": NetworkSpec(FEATURES, BODIES["gru"], HeadSpec("quantile", 3, (0.5, 0.8), 0)),
}


def randomised(spec: NetworkSpec) -> Any:
    """Return a network whose weights and statistics are all random."""
    net = network(spec, torch.float32)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            drawn = torch.randn(tensor.shape, generator=dice) / 2
            tensor.copy_(drawn.abs() + 0.1 if "variance" in name else drawn)
    return net


@pytest.mark.parametrize("name", ALL_SPECS)
def test_fifty_carried_steps_are_those_of_the_network(name: str) -> None:
    net = randomised(ALL_SPECS[name])
    content = export_step(net.spec, weights_of(net), {})
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert difference(content, net) <= 1e-5


FIXED = FeatureSpec(2, ("hour",), 9.0, 3, 0, (4,), "zscore")
WITH_FEATURES = {
    **SPECS,
    **SUPERVISED_SPECS,
    "fixed": NetworkSpec(FIXED, BODIES["gru"], HeadSpec("point", 2, (), 3)),
    "one_lag": NetworkSpec(
        FeatureSpec(1, (), 3.0, 1, 0, (4,)), BODIES["gru"], HeadSpec("point", 2, (), 1)
    ),
    "video": NetworkSpec(FRAMES, VIDEO, POINT),
}


@pytest.mark.trap(23)
@pytest.mark.parametrize("name", WITH_FEATURES)
def test_with_its_features_a_graph_takes_raw_values_with_holes(name: str) -> None:
    net = randomised(WITH_FEATURES[name])
    if name == "fixed":
        net.encoder.scale.spread.abs_().add_(0.5)
    content = export_step(net.spec, weights_of(net), {}, features=True)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert difference_of_all(content, net) <= 1e-5


def test_a_wrong_half_life_is_noticed() -> None:
    net = randomised(SPECS["two_layers"])
    spec = replace(net.spec, features=replace(net.spec.features, half_life=6.0))
    content = export_step(spec, weights_of(net), {}, features=True)
    assert difference_of_all(content, net) > 1e-3


def test_a_wrong_weight_is_noticed() -> None:
    net = network(ALL_SPECS["gru"], torch.float32)
    weights = weights_of(net)
    weights["layers.a.gru.weight_hh_l0"] = weights["layers.a.gru.weight_hh_l0"][::-1]
    assert difference(export_step(net.spec, weights, {}), net) > 1e-3


@pytest.mark.parametrize(
    ("layers", "head", "said"),
    [
        ([LayerSpec("back", "bilstm", {"hidden": 2})], POINT, "'back'"),
        ([LayerSpec("a", "lstm", {"hidden": 2})], HeadSpec("student_t", 2, (0.5,)), "student_t"),
        (
            [LayerSpec("seen", "peephole_lstm", {"hidden": 2, "variant": "input-node"})],
            POINT,
            "'seen'",
        ),
    ],
)
def test_what_cannot_be_exported_is_named(
    layers: list[LayerSpec], head: HeadSpec, said: str
) -> None:
    net = network(NetworkSpec(FEATURES, tuple(layers), head), torch.float32)
    with pytest.raises(UserError, match=said):
        export_step(net.spec, weights_of(net), {})


def test_the_command_writes_the_features_too(tmp_path: Path) -> None:
    artifact.save(tmp_path / "m", model("two_layers"), example())
    path = tmp_path / "step.onnx"
    arguments = ["export", str(tmp_path / "m"), "-o", str(path), "--features", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["difference"] <= 1e-5
    told = {each.key: each.value for each in onnx.load(str(path)).metadata_props}
    assert json.loads(told["values"]) == ["y", "x"]
    assert json.loads(told["clocks"]) == ["sin(hour)", "cos(hour)"]
    assert json.loads(told["codes"]) == ["unique_id"]


def test_the_command_writes_a_file_that_tells_its_inputs(tmp_path: Path) -> None:
    trained = artifact.save(tmp_path / "m", model("lstm_quantile"), example())
    path = tmp_path / "step.onnx"
    result = CliRunner().invoke(app, ["export", str(tmp_path / "m"), "-o", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["difference"] <= 1e-5
    told = {each.key: each.value for each in onnx.load(str(path)).metadata_props}
    assert told["digest"] == trained.digest
    names = json.loads(told["x"])
    assert len(names) == trained.spec.features.width
    assert names[:3] == ["value(y)", "value(x)", "change(y)"]


def test_the_formulas_of_the_guide_make_x_and_the_forecast() -> None:
    """What docs/guides/weights.md tells of the features, with the ONNX graph, is the forecast."""
    trained = model("lstm_quantile", seed=4)
    spec, net = trained.spec, trained.network
    session = onnxruntime.InferenceSession(export_step(spec, trained.weights, {}))
    stretch = example()
    clocks = trained.clocks(stretch.times[None])
    codes = trained.vocabulary.encode([stretch.key])
    names = input_names(trained.signature, spec.features)
    table = trained.weights["encoder.embeddings.0.weight"]
    memory = {column: Running(spec.features.half_life) for column in range(2)}
    states = {i.name: np.zeros((1, *i.shape[1:]), np.float32) for i in session.get_inputs()}
    states = {name: array for name, array in states.items() if name not in {"x", "lags"}}
    ring: list[float] = []
    for t, row in enumerate(stretch.values):
        scaled = [memory[column].take(float(value)) for column, value in enumerate(row)]
        numbers = [part for parts in zip(*scaled, strict=True) for part in parts]
        x = np.array([*numbers, *clocks[0, t], *table[codes[0, 0]]], np.float32)[None]
        assert x.shape[1] == len(names)
        target = memory[0]
        ring = [*(ring or [target.latest] * spec.head.lags), target.latest][-spec.head.lags :]
        lags = (np.array([ring]) - target.location) / target.spread
        found = session.run(None, {"x": x, "lags": lags.astype(np.float32), **states})
        states = {f"{name}": found[place] for place, name in enumerate(states, 1)}
    forecast = found[0][0] * target.spread + target.location
    inputs = Inputs(
        torch.from_numpy(stretch.values[None]), torch.from_numpy(clocks), torch.from_numpy(codes)
    )
    with torch.inference_mode():
        wanted, after = net.unroll(inputs, net.initial_state(1))
        spread = net.encoder.scale.of(ScaleState(*after.encoder[:3])).spread[0, 0]
    np.testing.assert_allclose(target.spread, float(spread), rtol=1e-9)
    np.testing.assert_allclose(forecast, wanted.unscaled()[0, -1].numpy(), rtol=1e-4, atol=1e-4)


class Running:
    """The running scale of one column, as the guide has it."""

    def __init__(self, half_life: float) -> None:
        self.rates = [1 - 0.5 ** (1 / h) for h in (half_life, 30 * half_life)]
        self.seen, self.latest = 0, 0.0
        self.mean, self.variance = [0.0, 0.0], [0.0, 0.0]

    @property
    def location(self) -> float:
        return self.mean[0]

    @property
    def spread(self) -> float:
        fast, slow = np.sqrt(self.variance)
        return float(fast + 0.1 * slow + 1e-6 * abs(self.location) + 1e-30)

    def take(self, v: float) -> tuple[float, float, float]:
        if np.isnan(v):
            return 0.0, 0.0, 0.0
        before, first = self.latest, self.seen == 0
        self.seen, self.latest = self.seen + 1, v
        for k, rate in enumerate(self.rates):
            w = max(rate, 1 / self.seen)
            d = v - self.mean[k]
            self.mean[k] += w * d
            self.variance[k] = (1 - w) * (self.variance[k] + w * d * d)
        change = 0.0 if first else (v - before) / self.spread
        return (v - self.location) / self.spread, change, 1.0


def test_without_the_package_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact.save(tmp_path / "m", model("lstm_quantile"), example())
    for name in list(sys.modules):
        if name.partition(".")[0] in {"onnx", "onnxruntime"} or "exchange.onnx" in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = tmp_path / "step.onnx"
    result = CliRunner().invoke(app, ["export", str(tmp_path / "m"), "-o", str(path)])
    assert isinstance(result.exception, UserError)
    assert "forecastd[onnx]" in str(result.exception)
    assert not path.exists()
