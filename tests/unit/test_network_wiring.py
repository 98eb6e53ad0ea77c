"""A network that is written down wrong is one sentence with the layer, before any data are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from layer_examples import EXAMPLES
from models import waves
from networks import layer
from typer.testing import CliRunner

from forecast_cli.config import toml_value
from forecast_cli.main import app
from forecastd.errors import ConfigError, SpecError
from forecastd.network.graph import LayerGraph
from forecastd.network.kinds import KINDS
from forecastd.network.kinds.contract import Shape
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import Port, wire

HEAD = '[data]\npath = "none.parquet"\n\n'
"""The file does not exist, so whatever is told is told before it is opened."""


def refused(folder: Path, text: str, *more: str) -> str:
    """Return what `forecast train` says of a config in a folder without data."""
    (folder / "forecast.toml").write_text(text)
    result = CliRunner().invoke(app, ["train", str(folder / "forecast.toml"), *more])
    assert isinstance(result.exception, ConfigError), result.exception or result.output
    assert sorted(path.name for path in folder.iterdir()) == ["forecast.toml"]
    [problem] = result.exception.problems
    return problem.removeprefix(f"{folder / 'forecast.toml'}:")


def table(**settings: Any) -> str:
    lines = [f"{name} = {toml_value(value)}" for name, value in settings.items()]
    return "\n".join(["[[network.layers]]", *lines, "", ""])


def lstm(**settings: Any) -> str:
    return table(type="lstm", **{"hidden": 4, **settings})


WRONG = {
    "an unknown type": (
        lstm() + table(type="lstmm"),
        "8: layer 'lstmm_1' has the unknown kind 'lstmm'",
    ),
    "an unknown option": (
        lstm() + lstm(hiden=5),
        "8: layer 'lstm_2' (lstm): unknown option 'hiden'; did you mean 'hidden'?",
    ),
    "an option out of range": (
        lstm(hidden=0),
        "4: layer 'lstm_1' (lstm): hidden: Input should be greater than or equal to 1, found 0",
    ),
    "a missing option": (
        table(type="lstm"),
        "4: layer 'lstm_1' (lstm): option 'hidden' is missing",
    ),
    "a name that is used twice": (
        lstm(name="a") + lstm(name="a"),
        "9: two layers are called 'a'",
    ),
    "a name that is taken": (lstm(name="input"), "4: 'input' cannot be the name of a layer"),
    "a circle": (
        lstm(name="a", inputs=["b"]) + lstm(name="b"),
        "4: the layers 'a', 'b' feed each other in a circle",
    ),
    "a source that is not there": (
        lstm() + lstm(inputs=["c"]),
        "8: layer 'lstm_2' takes its input from 'c', which is none",
    ),
    "a port that is not there": (
        lstm() + lstm(inputs=["lstm_1/cell"]),
        "8: layer 'lstm_2' is fed from 'lstm_1/cell', which has no such output",
    ),
    "an input that is not there": (
        lstm() + lstm(inputs={"in": "lstm_1", "cell": "lstm_1"}),
        "8: layer 'lstm_2' (lstm) has no input 'cell'",
    ),
    "an input that is not connected": (
        table(type="folding") + table(type="unfolding"),
        "7: the input 'mini_batch_size' of layer 'unfolding_1' (unfolding) is not connected",
    ),
    "no sequence where one is needed": (
        lstm(output="last") + lstm(),
        "9: layer 'lstm_2' (lstm) takes a sequence, and what enters is 4, once a sequence",
    ),
    "shapes that do not fit": (
        lstm(name="a") + lstm(name="b", hidden=5) + table(type="addition", inputs=["a", "b"]),
        "14: layer 'addition_1' (addition)",
    ),
    "a frame where a vector is needed": (
        table(type="sequence_input", size=[1, 8, 8]) + lstm(),
        "8: layer 'lstm_1' (lstm) takes vectors, and what enters is 8x1x8",
    ),
    "more columns than enter": (
        table(type="sequence_input", size=0) + lstm(),
        "4: layer 'sequence_input_1' (sequence_input): size",
    ),
    "chunks shorter than the least length": (
        table(type="sequence_input", size=1, min_length=97, name="seq") + lstm(),
        "4: layer 'seq' needs sequences of at least 97 steps",
    ),
    "foresight": (
        table(type="bilstm", hidden=4),
        "4: layer 'bilstm_1' (bilstm) reads each sequence backwards too, from its end, so at each",
    ),
    "other steps than enter": (
        table(type="conv1d", size=5, filters=2) + lstm(),
        "4: layer 'conv1d_1' (conv1d) gives other steps than enter",
    ),
    "chunks shorter than a filter": (
        table(type="conv1d", size=50, dilation=2, filters=2) + lstm(output="last"),
        "4: layer 'conv1d_1' needs sequences of at least 99 steps",
    ),
}


@pytest.mark.shows("S10", "S12")
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_network_is_one_sentence_before_any_data_are_read(
    tmp_path: Path, case: str
) -> None:
    text, words = WRONG[case]
    assert refused(tmp_path, HEAD + text).startswith(words)


def test_what_is_wrong_in_the_short_form_names_its_line(tmp_path: Path) -> None:
    text = HEAD + '[network]\nkind = "projected_lstm"\nhidden = 8\nprojection = 9\n'
    assert "layer 'projected_lstm_1'" in refused(tmp_path, text)


def test_fewer_inputs_than_columns_are_told_before_data_are_read(tmp_path: Path) -> None:
    data = '[data]\npath = "none.parquet"\npast = ["a", "b", "c"]\n\n'
    told = refused(tmp_path, data + table(type="sequence_input", size=2) + lstm())
    assert "'sequence_input_1' (sequence_input) has the size 2, and the data give 4" in told


def test_config_validate_finds_it_too(tmp_path: Path) -> None:
    (tmp_path / "forecast.toml").write_text(HEAD + lstm(hiden=3))
    arguments = ["config", "validate", str(tmp_path / "forecast.toml")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "forecast.toml:4: layer 'lstm_1'" in str(result.exception)


def test_a_width_that_only_the_data_tell_is_no_problem_before(tmp_path: Path) -> None:
    """A sum with what enters fits for one number of clocks; which there are, the data tell."""
    text = HEAD + lstm(hidden=11) + table(type="addition", inputs=["input", "lstm_1"])
    (tmp_path / "forecast.toml").write_text(text)
    result = CliRunner().invoke(app, ["train", str(tmp_path / "forecast.toml")])
    assert "none.parquet" in str(result.exception)


# Wiring


@pytest.mark.shows("S12")
def test_layers_come_after_those_that_feed_them_whatever_the_order() -> None:
    layers = [
        LayerSpec("sum", "addition", {}, {"in1": "b", "in2": "a"}),
        LayerSpec("a", "lstm", {"hidden": 3}, {"in": "input"}),
        LayerSpec("b", "lstm", {"hidden": 3}, {"in": "a"}),
        LayerSpec("last", "dropout", {}, {"in": "sum"}),
    ]
    wiring = wire(layers, Shape((2,)))
    assert [node.name for node in wiring.nodes] == ["a", "b", "sum", "last"]
    assert wiring.output == Shape((3,))
    assert not wiring.is_chain


def test_the_last_of_the_list_gives_the_output() -> None:
    layers = [
        LayerSpec("a", "lstm", {"hidden": 3}),
        LayerSpec("b", "lstm", {"hidden": 5}, {"in": "input"}),
    ]
    assert wire(layers, Shape((2,))).output.width == 5
    assert wire(layers[::-1], Shape((2,))).output.width == 3


@pytest.mark.shows("S22", "S28", "S30")
def test_each_layer_says_the_arrays_that_are_learned() -> None:
    for kind in KINDS:
        for example in EXAMPLES[kind]:
            if example.layers:
                wiring = wire(example.layers, Shape(example.sizes))
                graph = LayerGraph(wiring)
                made = {node.name: graph.layer(node.name) for node in wiring.nodes}
            else:
                made = {"only": layer(kind, example.sizes, **example.options)}
            for module in made.values():
                learned = {n for n, p in module.named_parameters() if p.requires_grad}
                assert module.state_dict().keys() - learned == module.facts.fixed, kind


@pytest.mark.trap(21)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bilstm", {"hidden": 2}),
        ("conv1d", {"filters": 2, "size": 3, "padding": "same"}),
        ("conv1d", {"filters": 2, "size": 3, "padding": "causal", "stride": 2}),
        ("max_pooling1d", {"size": 2, "stride": 2}),
        ("global_average_pooling1d", {}),
    ],
)
def test_what_needs_the_future_says_so_by_name(kind: str, options: Mapping[str, Any]) -> None:
    wiring = wire([LayerSpec("first", kind, dict(options))], Shape((3,)))
    reason = wiring.needs_future()
    assert reason is not None
    assert reason.startswith(f"layer 'first' ({kind}) ")


@pytest.mark.trap(21)
def test_what_needs_no_future_can_follow_a_stream() -> None:
    causal = LayerSpec("conv", "conv1d", {"filters": 2, "size": 3, "padding": "causal"})
    chain = [causal, LayerSpec("norm", "batch_norm"), LayerSpec("gru", "gru", {"hidden": 2})]
    assert wire(chain, Shape((3,))).needs_future() is None


def test_a_problem_of_a_layer_carries_its_name() -> None:
    with pytest.raises(SpecError) as error:
        wire([LayerSpec("a", "lstm", {"hidden": 0})], Shape((2,)))
    assert error.value.layer == "a"
    assert Port.parse("a/cell") == Port("a", "cell")


def test_what_only_the_data_tell_names_the_line_too(tmp_path: Path) -> None:
    waves({"a": 60}).write_parquet(tmp_path / "waves.parquet")
    data = '[data]\npath = "waves.parquet"\nid = "unique_id"\npast = ["x"]\nfreq = "1h"\n\n'
    path = tmp_path / "forecast.toml"
    path.write_text(data + table(type="sequence_input", size=3) + lstm())
    result = CliRunner().invoke(app, ["train", str(path)])
    assert isinstance(result.exception, ConfigError), result.output
    assert f"{path}:7: layer 'sequence_input_1'" in str(result.exception)
    assert "has the size 3, and the data give 2 numbers a step" in str(result.exception)
    assert not list((tmp_path / "runs").glob("*-*-*"))
