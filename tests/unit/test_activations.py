"""What passes inside a network is what it computes, step by step, and looking changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from models import example, model, stored, waves
from networks import network
from typer.testing import CliRunner, Result

from forecast_cli.heat import heat_map
from forecast_cli.main import app
from forecastd import artifact
from forecastd.artifact import Artifact
from forecastd.errors import UserError
from forecastd.features.encoder import Inputs
from forecastd.features.spec import FeatureSpec
from forecastd.network.inside import look
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.runtime.session import Session
from forecastd.scoring import activations as scoring
from forecastd.scoring.activations import View, activations, write_activations

FEATURES = FeatureSpec(2, (), 9.0, 0, 0, (4,))
STEPS, HIDDEN = 11, 4
LSTMS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "peephole_lstm": {},
    "projected_lstm": {"input_projector": 2, "output_projector": 3},
}
RESETS = ["after-multiplication", "before-multiplication", "recurrent-bias-after-multiplication"]


def made(kind: str, **options: Any) -> ForecastNetwork:
    layer = LayerSpec("a", kind, {"hidden": HIDDEN, **options})
    net = network(NetworkSpec(FEATURES, (layer,), HeadSpec("point", 1)), torch.float64)
    dice = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=dice, dtype=torch.float64))
    return net


def walk(steps: int = STEPS) -> Inputs:
    values = np.random.default_rng(1).normal(size=(1, steps, 2)).cumsum(1).astype(np.float32)
    return Inputs(torch.from_numpy(values), torch.zeros(1, steps, 0), torch.zeros(1, 1).long())


def seen_in(net: ForecastNetwork, x: Inputs, state: Any = None) -> tuple[dict[str, Any], Any]:
    with torch.inference_mode():
        seen, after = look(net, x, state or net.initial_state(1))
    return {one.what: one.values[0].numpy() for one in seen if one.layer == "a"}, after


def before(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values one step earlier, from zeros."""
    return np.concatenate([np.zeros_like(values[:1]), values[:-1]])


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.shows("S57", "S59", "S60", "S62", "S64", "S68", "S69", "S70", "S71", "S84")
@pytest.mark.parametrize("kind", LSTMS)
def test_gates_and_cell_are_those_that_make_the_output(kind: str) -> None:
    seen, after = seen_in(made(kind, **LSTMS[kind]), walk())
    close(seen["cell"], seen["f"] * before(seen["cell"]) + seen["i"] * seen["g"])
    close(seen["out"], seen["o"] * np.tanh(seen["cell"]))
    close(after.layers[0].cell[0], seen["cell"][-1])
    for gate in "ifo":
        assert np.all((seen[gate] > 0) & (seen[gate] < 1))


@pytest.mark.parametrize("variant", ["gers", "input-node"])
def test_both_variants_of_peepholes_make_their_output(variant: str) -> None:
    seen, _ = seen_in(made("peephole_lstm", variant=variant), walk())
    close(seen["out"], seen["o"] * np.tanh(seen["cell"]))


def test_other_activations_are_those_of_the_layer() -> None:
    options = {"state_activation": "softsign", "gate_activation": "hard-sigmoid"}
    seen, _ = seen_in(made("lstm", **options), walk())
    close(seen["out"], seen["o"] * seen["cell"] / (1 + np.abs(seen["cell"])))


@pytest.mark.shows("S57", "S21")
@pytest.mark.parametrize("reset", RESETS)
def test_the_gates_of_a_gru_make_its_output(reset: str) -> None:
    seen, _ = seen_in(made("gru", reset=reset), walk())
    close(seen["out"], (1 - seen["z"]) * seen["h"] + seen["z"] * before(seen["out"]))


@pytest.mark.shows("S57", "S20")
def test_both_directions_have_gates_at_their_own_steps() -> None:
    seen, _ = seen_in(made("bilstm"), walk())
    close(seen["out"][:, :HIDDEN], seen["o"] * np.tanh(seen["cell"]))
    close(seen["out"][:, HIDDEN:], seen["backward_o"] * np.tanh(seen["backward_cell"]))
    later = before(seen["backward_cell"][::-1])[::-1]
    added = seen["backward_i"] * seen["backward_g"]
    close(seen["backward_cell"], seen["backward_f"] * later + added)


@pytest.mark.trap(22, 27)
@pytest.mark.shows("S57", "S58")
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_step_by_step_is_the_whole_and_each_step_sees_its_own_input(kind: str) -> None:
    """A well-known listing feeds X(:,1) at every step; the answer belongs to X(:,i)."""
    net, x = made(kind), walk()
    whole, _ = seen_in(net, x)
    state, parts, wrong = None, [], []
    for t in range(STEPS):
        step = Inputs(x.values[:, t : t + 1], x.clocks[:, :1], x.codes)
        first = Inputs(x.values[:, :1], x.clocks[:, :1], x.codes)
        wrong.append(seen_in(net, first, state)[0]["out"])
        seen, state = seen_in(net, step, state)
        parts.append(seen)
    for what, values in whole.items():
        close(np.concatenate([part[what] for part in parts]), values)
    assert np.abs(np.concatenate(wrong) - whole["out"]).max() > 1e-3


@pytest.mark.trap(27)
@pytest.mark.shows("S57")
def test_looking_changes_neither_the_state_nor_the_network() -> None:
    net, x = made("lstm"), walk()
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    _, state = seen_in(net, x)
    kept = [tensor.clone() for memory in state.layers for tensor in memory]
    first, _ = seen_in(net, x, state)
    second, _ = seen_in(net, x, state)
    close(first["out"], second["out"])
    for tensor, copy in zip((t for m in state.layers for t in m), kept, strict=True):
        assert torch.equal(tensor, copy)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Any, Path]:
    folder = tmp_path_factory.mktemp("inside")
    waves({"a": 90, "b": 40}).write_parquet(folder / "waves.parquet")
    store = stored(folder, waves({"a": 90, "b": 40}))
    trained = artifact.save(folder / "model", model("two_layers"), example())
    return trained, store, folder


def test_pieces_of_a_data_set_give_what_one_pass_gives(
    opened: tuple[Artifact, Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, store, _ = opened

    def all_of(series: str) -> np.ndarray[Any, Any]:
        parts = list(activations(trained, store, View(["lstm_2"], [series])))
        rows = [v for part in parts for layer, what, v in part.seen if what == "cell"]
        steps = np.concatenate([part.steps for part in parts])
        assert steps.tolist() == list(range(len(steps)))
        return np.concatenate(rows)

    whole = all_of("a")
    monkeypatch.setattr(scoring, "STEPS", 7)
    np.testing.assert_allclose(all_of("a"), whole, atol=1e-5)
    times = np.asarray(store.times[store.rows_of(0)])
    session = Session(trained)
    session.predict_and_update(np.array(store.values[store.rows_of(0)]), "a", times)
    np.testing.assert_allclose(session.state("a")["layers.lstm_2.cell"], whole[-1], atol=1e-5)


def test_the_file_has_a_row_for_each_step_layer_and_unit(
    opened: tuple[Artifact, Any, Path], tmp_path: Path
) -> None:
    trained, store, _ = opened
    written = write_activations(trained, store, tmp_path / "x.parquet", View(rows=(5, 8)))
    seen = pl.read_parquet(written.path)
    assert seen.columns == ["unique_id", "ds", "step", "layer", "what", "unit", "value"]
    assert written.series == 2
    assert written.rows == len(seen)
    assert set(seen["step"]) == {5, 6, 7}
    lstm = seen.filter(pl.col("layer") == "lstm_1", pl.col("what") == "f")
    assert len(lstm) == 2 * 3 * 6
    assert set(seen["layer"]) == {"input", "lstm_1", "dropout_1", "lstm_2", "dropout_2"}
    ds = lstm.filter(pl.col("unique_id") == "b", pl.col("step") == 6)["ds"].unique()
    assert str(ds[0]) == "2013-01-01 06:00:00"
    outs = seen.filter(pl.col("what") == "out")
    same = [
        outs.filter(pl.col("layer") == name)["value"].to_list() for name in ("lstm_1", "dropout_1")
    ]
    assert same[0] == same[1]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.shows("S57")
def test_the_command_writes_draws_and_tells(
    opened: tuple[Artifact, Any, Path], tmp_path: Path
) -> None:
    folder = opened[2]
    common = ("activations", folder / "model", folder / "waves.parquet", "--rows", "0:30")
    result = call(
        *common, "--layer", "lstm_1", "--series", "b", "--what", "g",
        "-o", tmp_path / "x.parquet", "--png", tmp_path / "x.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception or result.output
    assert result.stdout.strip() == str(tmp_path / "x.parquet")
    assert "lstm_1 g of b" in result.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert set(pl.read_parquet(tmp_path / "x.parquet")["unique_id"]) == {"b"}
    drawn = call(*common)
    assert drawn.stdout.startswith("lstm_2 out of a")
    for wrong, said in (
        (("--layer", "lstm_3"), "no layer 'lstm_3'"),
        (("--series", "z"), "no series 'z'"),
        (("--what", "z"), "no 'z' of 'lstm_2'"),
        (("--rows", "9:3"), "no span of rows"),
    ):
        refused = call(*common, *wrong)
        assert isinstance(refused.exception, UserError)
        assert said in str(refused.exception)


def test_without_matplotlib_one_sentence_says_what_to_install(
    opened: tuple[Artifact, Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = opened[2]
    for name in list(sys.modules):
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = call(
        "activations", folder / "model", folder / "waves.parquet", "--png", tmp_path / "x.png"
    )
    assert isinstance(result.exception, UserError)
    assert "forecastd[pictures]" in str(result.exception)


def test_a_heat_map_goes_from_the_least_to_the_greatest() -> None:
    values = np.linspace(0, 1, 20)[:, None] * np.ones((1, 12))
    lines = heat_map(values, "x", width=5).splitlines()
    assert lines[0] == "x, 0 to 1"
    assert lines[1] == "   0  ░▒▓█"
    assert len(lines) == 1 + 10 + 1
    assert lines[-1].strip() == "20 steps, 4 a column; 2 more units"
    assert heat_map(np.zeros((3, 1)), "x").splitlines()[1].strip() == "0"
