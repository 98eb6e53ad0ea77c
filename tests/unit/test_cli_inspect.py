"""`forecast inspect` layer by layer, `forecast layers`, and what a stream refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import example, model
from networks import SPECS, network
from small_runs import prepared, trained
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecastd import artifact
from forecastd.artifact import Artifact
from forecastd.errors import ArtifactError, UserError
from forecastd.network.kinds import KINDS
from forecastd.network.kinds.contract import Shape
from forecastd.network.model import weights_of
from forecastd.network.overview import (
    about,
    kinds,
    options_class,
    options_table,
    reference_page,
)
from forecastd.network.spec import LayerSpec, NetworkSpec
from forecastd.network.wiring import wire
from forecastd.runtime.opening import open_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "layers.md"
VIDEO = """
[data]
path = "none.parquet"
target = "label"
past = ["frames"]
[task]
kind = "classification"
[[network.layers]]
type = "sequence_input"
name = "input"
size = [28, 28, 1]
[[network.layers]]
type = "folding"
name = "fold"
[[network.layers]]
type = "conv2d"
name = "conv"
size = 5
filters = 20
[[network.layers]]
type = "batch_norm"
name = "bn"
[[network.layers]]
type = "relu"
name = "relu"
[[network.layers]]
type = "unfolding"
name = "unfold"
inputs = ["relu", "fold/mini_batch_size"]
[[network.layers]]
type = "flatten"
name = "flatten"
[[network.layers]]
type = "lstm"
name = "lstm"
hidden = 200
output = "last"
[[network.layers]]
type = "fully_connected"
name = "fc"
size = 10
[[network.layers]]
type = "softmax"
name = "softmax"
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def printed(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result.stdout


def config(folder: Path, text: str) -> Path:
    path = folder / "forecast.toml"
    path.write_text(text)
    return path


def of_layers(*layers: LayerSpec) -> Artifact:
    """Return a model of random weights with these layers."""
    spec = dataclasses.replace(SPECS["lstm_quantile"], layers=layers)
    weights = weights_of(network(spec, torch.float32))
    return dataclasses.replace(model(), spec=spec, weights=weights)


@pytest.mark.shows("S5", "S11", "S12", "S112")
def test_a_config_shows_the_video_network_of_the_document_before_data_are_read(
    tmp_path: Path,
) -> None:
    path = config(tmp_path, VIDEO)
    told = json.loads(printed("inspect", path, "--json"))
    layers = {layer["name"]: layer for layer in told["layers"]}
    learned = {name: layer["parameters"] for name, layer in layers.items() if layer["parameters"]}
    assert learned == {"conv": 520, "bn": 40, "lstm": 9_376_800, "fc": 2_010}
    assert layers["flatten"]["outputs"]["out"]["sizes"] == [11_520]
    assert layers["unfold"]["inputs"] == {"in": "relu", "mini_batch_size": "fold/mini_batch_size"}
    assert layers["lstm"]["state"] == 400
    assert layers["lstm"]["outputs"]["out"]["time"] is False
    assert told["features"]["frame"] == [28, 28, 1]
    table = printed("inspect", path)
    assert "9,379,370" in table
    assert "mini_batch_size = fold/mini_batch_size" in table


@pytest.mark.shows("S112")
def test_the_layers_of_the_json_are_read_back(tmp_path: Path) -> None:
    told = json.loads(printed("inspect", config(tmp_path, VIDEO), "--json"))
    names = {field.name for field in dataclasses.fields(LayerSpec)}
    read = [LayerSpec(**{n: layer[n] for n in names}) for layer in told["layers"]]
    wiring = wire(read, Shape((1, 28, 28)))
    found = {
        node.name: {n: list(s) for n, s in node.facts.weights.items()} for node in wiring.nodes
    }
    assert found == {layer["name"]: layer["arrays"] for layer in told["layers"]}
    assert wiring.output == Shape((10,), time=False)


def test_clocks_that_follow_from_the_data_are_said_to_be_a_guess(tmp_path: Path) -> None:
    text = '[data]\npath = "none.parquet"\n'
    assert "a guess" in printed("inspect", config(tmp_path, text))
    known = text + "[features]\ncalendar = []\n"
    assert "a guess" not in printed("inspect", config(tmp_path, known))
    assert not json.loads(printed("inspect", tmp_path / "forecast.toml", "--json"))[
        "clocks_guessed"
    ]


@pytest.mark.shows("S112")
def test_a_model_shows_its_layers(tmp_path: Path) -> None:
    artifact.save(tmp_path / "model", model("two_layers"), example())
    told = json.loads(printed("inspect", tmp_path / "model", "--json"))
    width = SPECS["two_layers"].features.width
    learned = {layer["name"]: layer["parameters"] for layer in told["layers"]}
    assert learned == {
        "lstm_1": 4 * 6 * (width + 6 + 1), "dropout_1": 0, "lstm_2": 4 * 6 * 13, "dropout_2": 0,
    }  # fmt: skip
    assert all(layer["streamable"] for layer in told["layers"])
    assert NetworkSpec.from_json(told["spec"]) == SPECS["two_layers"]
    text = printed("inspect", tmp_path / "model")
    for name in learned:
        assert name in text


@pytest.mark.shows("S108", "S112")
def test_a_model_tells_how_quickly_each_array_learned(tmp_path: Path) -> None:
    rules = [{"part": "lstm_1", "rate": 0.5}, {"part": "head", "rate": 0.0}]
    layers = {"layers": [{"type": "lstm", "hidden": 4}], "horizon": 2}
    ready = prepared(tmp_path, network=layers, train={"multipliers": rules})
    saved = trained(ready, steps=1).folder
    rates = json.loads(printed("inspect", saved, "--json"))["learning_rate_multipliers"]
    assert rates["lstm_1/lstm.weight_ih_l0"] == 0.5
    assert rates["lstm_1/lstm.bias_hh_l0"] == 0  # the second bias, which stays zero
    assert rates["head/centre.weight"] == 0
    assert rates["encoder/embeddings.0.weight"] == 1


@pytest.mark.shows("S112")
@pytest.mark.trap(21)
def test_a_layer_that_cannot_follow_a_stream_says_why(tmp_path: Path) -> None:
    path = config(tmp_path, '[data]\npath = "x"\n[network]\nkind = "bilstm"\noutput = "last"\n')
    [layer, _] = json.loads(printed("inspect", path, "--json"))["layers"]
    assert (layer["streamable"], layer["outputs"]["out"]["sizes"]) == (False, [128])
    assert "no: reads each sequence backwards" in printed("inspect", path)


@pytest.mark.shows("S20", "S36")
@pytest.mark.trap(21)
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (LayerSpec("both", "bilstm", {"hidden": 2}), "backwards"),
        (LayerSpec("wide", "conv1d", {"size": 3, "filters": 2, "padding": "same"}), "'wide'"),
    ],
    ids=["bilstm", "conv1d"],
)
def test_a_stream_refuses_what_needs_the_future(
    tmp_path: Path, layer: LayerSpec, reason: str
) -> None:
    artifact.save(tmp_path / "model", of_layers(layer), example())
    told: list[str] = []
    with pytest.raises(
        ArtifactError, match=rf"cannot follow a stream: layer {layer.name!r}"
    ) as error:
        open_model(tmp_path / "model", "cpu", 10, told.append)
    assert reason in error.value.message
    result = call("stream", tmp_path / "model")
    assert isinstance(result.exception, ArtifactError), result.output
    assert layer.name in str(result.exception)


# The kinds of layers


@pytest.mark.shows("S111")
@pytest.mark.parametrize("kind", kinds())
def test_every_option_of_every_kind_is_explained(kind: str) -> None:
    """With the default that an instance has, where one can be made without options."""
    rows = options_table(kind)
    assert about(kind)
    assert [row.name for row in rows if not row.meaning or not row.values] == []
    top = {row.name.split(".")[0] for row in rows}
    assert top == options_class(kind).model_fields.keys()
    required = {n for n, field in options_class(kind).model_fields.items() if field.is_required()}
    assert required == {row.name for row in rows if row.default == "required"}


@pytest.mark.shows("S111")
def test_the_defaults_are_those_of_the_documents() -> None:
    found = {row.name: row.default for row in options_table("lstm")}
    expected = {
        "hidden": "required",
        "output": '"sequence"',
        "state_activation": '"tanh"',
        "gate_activation": '"sigmoid"',
        "input_initializer": '"glorot"',
        "recurrent_initializer": '"orthogonal"',
        "bias_initializer": '"unit-forget-gate"',
        "l2_factors.bias": "[0.0]",
        "state_inputs": "false",
    }
    assert {name: found[name] for name in expected} == expected
    assert {row.name: row.default for row in options_table("dropout")} == {"share": "0.5"}
    assert {row.name: row.default for row in options_table("max_pooling1d")}["stride"] == "1"


def test_the_reference_of_layers_is_up_to_date() -> None:
    """`forecast layers --markdown > docs/reference/layers.md` writes it."""
    assert PAGE.read_text(encoding="utf-8") == reference_page()
    assert printed("layers", "--markdown") == reference_page()


@pytest.mark.shows("S111")
def test_layers_lists_kinds_and_options() -> None:
    listed = printed("layers")
    assert [kind for kind in (*KINDS, "sequence_input") if kind not in listed] == []
    assert "recurrent-bias-after-multiplication" in printed("layers", "gru")
    assert "has no options" in printed("layers", "relu")
    told: dict[str, Any] = json.loads(printed("layers", "gru", "--json"))
    assert told["options"][0]["name"] == "hidden"
    assert {one["type"] for one in json.loads(printed("layers", "--json"))} == set(kinds())
    assert isinstance(call("layers", "lstn").exception, UserError)


def test_looking_at_a_config_needs_no_torch(tmp_path: Path) -> None:
    path = config(tmp_path, VIDEO)
    code = (
        "import sys\nfrom forecast_cli.inspect import _of_config\nfrom pathlib import Path\n"
        f"_of_config(Path({str(path)!r}))\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
