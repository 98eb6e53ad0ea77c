from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import example, model
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecastd import artifact
from forecastd.artifact import Artifact
from forecastd.errors import UserError
from forecastd.exchange.files import read_arrays, write_arrays
from forecastd.exchange.transfer import LAYOUTS, export_weights

ENDINGS = ["npz", "safetensors", "json"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, UserError), result.exception or result.output
    return str(result.exception)


def made(folder: Path, seed: int = 0, name: str = "lstm_quantile") -> Artifact:
    """Save a model as it is made now: one bias of two is zero."""
    trained = model(name, seed)
    for weight, array in trained.weights.items():
        if "bias_hh" in weight:
            array[:] = 0
    return artifact.save(folder, trained, example())


@pytest.mark.shows("S98", "S99")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_weights_go_out_and_into_another_model(tmp_path: Path, layout: str, ending: str) -> None:
    source = made(tmp_path / "one", seed=1)
    made(tmp_path / "two", seed=2)
    file = tmp_path / f"weights.{ending}"
    told = succeeded("weights", "export", tmp_path / "one", "-o", file, "--layout", layout)
    assert told.stdout.strip() == str(file)
    result = json.loads(
        succeeded(
            "weights", "import", tmp_path / "two", file, "--layout", layout,
            "-o", tmp_path / "three", "--json",
        ).stdout
    )  # fmt: skip
    assert 0 <= result["differences"]["lstm_1"] < 1e-12
    loaded = artifact.load(tmp_path / "three")
    for name, array in source.weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array, name)
    assert loaded.metrics == {}
    assert loaded.provenance["imported"]["layout"] == layout


def test_one_layer_alone_may_go_by_the_arrays_names(tmp_path: Path) -> None:
    before = made(tmp_path / "one", seed=1, name="two_layers")
    hidden = 6
    dice = np.random.default_rng(0)
    arrays = {
        f"{gate}Gate{name}": dice.normal(size=shape)
        for gate in ("Input", "Output", "Forget", "Memory")
        for name, shape in {
            "InputWeights": (hidden, hidden),
            "StateWeights": (hidden, hidden),
            "Biases": (hidden,),
        }.items()
    }
    write_arrays(tmp_path / "layer.npz", arrays)
    succeeded(
        "weights", "import", tmp_path / "one", tmp_path / "layer.npz", "--layout", "wolfram",
        "--layer", "lstm_2", "-o", tmp_path / "two",
    )  # fmt: skip
    after = artifact.load(tmp_path / "two")
    changed = [n for n, a in before.weights.items() if not np.array_equal(a, after.weights[n])]
    assert {name.split(".")[1] for name in changed} == {"lstm_2"}
    forget = after.weights["layers.lstm_2.lstm.weight_ih_l0"][hidden : 2 * hidden]
    np.testing.assert_array_equal(forget, arrays["ForgetGateInputWeights"].astype(np.float32))


def test_a_chosen_layer_is_exported_alone(tmp_path: Path) -> None:
    made(tmp_path / "one", name="two_layers")
    file = tmp_path / "w.json"
    succeeded("weights", "export", tmp_path / "one", "-o", file, "--layer", "head.centre")
    assert set(read_arrays(file)) == {"head.centre/weight", "head.centre/bias"}
    said = refused("weights", "export", tmp_path / "one", "-o", file, "--layer", "lstm_9")
    assert "'lstm_9'" in said
    assert "lstm_1" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lstm_1/Bias": np.zeros((31, 1))}, "lstm_1/Bias has the shape 31 x 1, and 32 x 1"),
        ({"lstm_7/Bias": np.zeros((32, 1))}, "'lstm_7/Bias', which belongs to no layer"),
        ({"lstm_1/Bias": np.full((32, 1), np.nan)}, "'lstm_1/Bias' is not made of finite"),
        ({"lstm_1/Bias": None}, "no array 'Bias' for 'lstm_1'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    trained = made(tmp_path / "one")
    arrays = export_weights(trained, "matlab") | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    write_arrays(tmp_path / "w.npz", arrays)
    found = refused(
        "weights", "import", tmp_path / "one", tmp_path / "w.npz", "--layout", "matlab",
        "-o", tmp_path / "two",
    )  # fmt: skip
    assert said in found
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_files_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w.{ending}"
    path.write_bytes(b"PK\x03\x04 no such thing")
    with pytest.raises(UserError, match="holds no weights"):
        read_arrays(path)
    with pytest.raises(UserError, match="cannot read"):
        read_arrays(tmp_path / f"missing.{ending}")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, **{"lstm_1/Bias": np.array([{}], object)})
    with pytest.raises(UserError, match="holds no weights"):
        read_arrays(path)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ending"):
        write_arrays(tmp_path / "w.mat", {})


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_keep_every_bit(tmp_path: Path, ending: str) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    write_arrays(tmp_path / f"w.{ending}", {"a/b": array.T})
    np.testing.assert_array_equal(read_arrays(tmp_path / f"w.{ending}")["a/b"], array.T)
