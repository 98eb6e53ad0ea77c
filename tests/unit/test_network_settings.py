"""[network] and [features] as written down become named layers and features."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from forecast_cli.main import app
from forecastd.config import TrainConfig, load
from forecastd.errors import ConfigError, SpecError
from forecastd.features.spec import PARTS
from forecastd.network.expand import (
    Known,
    check_network,
    features_of,
    layers_of,
)
from forecastd.network.spec import LayerSpec, lstm_chain
from forecastd.network_settings import NetworkSettings

INPUT = {"type": "sequence_input", "size": 1}
LSTM = {"type": "lstm", "hidden": 4}


def network(**settings: Any) -> NetworkSettings:
    return NetworkSettings.model_validate(settings)


def config(**tables: Any) -> TrainConfig:
    return TrainConfig.model_validate({"data": {"path": "x"}, **tables})


def listed(*tables: dict[str, Any], **others: Any) -> TrainConfig:
    return config(network={"layers": list(tables)}, **others)


# The short form


@pytest.mark.shows("S16", "S17")
def test_the_short_form_gives_each_layer_its_units_and_all_but_the_last_a_sequence() -> None:
    layers = layers_of(network(hidden=[125, 100], dropout=0.2, output="last"))
    assert layers == (
        LayerSpec("lstm_1", "lstm", {"hidden": 125, "output": "sequence"}),
        LayerSpec("dropout_1", "dropout", {"share": 0.2}),
        LayerSpec("lstm_2", "lstm", {"hidden": 100, "output": "last"}),
        LayerSpec("dropout_2", "dropout", {"share": 0.2}),
    )
    features = features_of(config(network={"layers": [{**INPUT, "size": 12}, LSTM]}), Known(12))
    assert features.sizes == (12,)


def test_the_default_is_the_chain_that_older_models_have() -> None:
    assert layers_of(network()) == lstm_chain(64, 1, 0.3, "sequence")
    assert layers_of(network(layers=3)) == lstm_chain(64, 3, 0.3, "sequence")


@pytest.mark.shows("S20", "S21")
@pytest.mark.parametrize("kind", ["bilstm", "gru", "peephole_lstm"])
def test_the_short_form_takes_other_recurrences(kind: str) -> None:
    settings = {"kind": kind, "layers": 2, "hidden": 8, "output": "last"}
    wiring = check_network(config(network=settings)).wiring
    assert [node.kind for node in wiring.nodes] == [kind, "dropout", kind, "dropout"]
    assert wiring.output.width == (16 if kind == "bilstm" else 8)


def test_a_projected_chain_says_to_how_many_numbers() -> None:
    settings = config(network={"kind": "projected_lstm", "hidden": 8, "projection": 2})
    [projected, _] = check_network(settings).wiring.nodes
    assert projected.facts.weights["weight_hh"] == (32, 2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": [LSTM], "hidden": 64}, "hidden belongs into the tables"),
        ({"layers": [LSTM], "kind": "lstm"}, "kind belongs into the tables"),
        ({"layers": [LSTM], "dropout": 0.0}, "dropout belongs into the tables"),
        ({"layers": [LSTM], "output": "last"}, "output belongs into the tables"),
        ({"hidden": [3, 4], "layers": 3}, "2 numbers for 3 layers"),
        ({"kind": "projected_lstm"}, "projection"),
        ({"projection": 3}, "projection"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(**settings)


@pytest.mark.parametrize(
    "settings", [{}, {"hidden": [3, 4]}, {"layers": 2}, {"layers": [INPUT, LSTM]}]
)
def test_what_is_saved_of_the_settings_is_read_again(settings: dict[str, Any]) -> None:
    wanted = config(network=settings)
    again = TrainConfig.model_validate(json.loads(json.dumps(wanted.model_dump())))
    assert again == wanted
    assert layers_of(again.network) == layers_of(wanted.network)


# The list of layers


def test_layers_are_named_by_type_and_number() -> None:
    drop = {"type": "dropout"}
    layers = layers_of(network(layers=[LSTM, drop, LSTM, {**drop, "name": "last"}]))
    assert [layer.name for layer in layers] == ["lstm_1", "dropout_1", "lstm_2", "last"]
    assert [layer.inputs for layer in layers] == [{}] * 4


@pytest.mark.shows("S12", "S95", "S118")
def test_inputs_are_a_list_in_the_order_of_the_ports_or_a_table() -> None:
    first = {**LSTM, "name": "a", "state_outputs": True, "output": "last"}
    fed = {**LSTM, "state_inputs": True}
    sources = ["input", "a/hidden", "a/cell"]
    ports = dict(zip(("in", "hidden", "cell"), sources, strict=True))
    for inputs in (sources, ports):
        [_, second] = layers_of(network(layers=[first, {**fed, "inputs": inputs}]))
        assert second.inputs == ports
    [_, alone] = layers_of(network(layers=[first, {**fed, "inputs": ["input", "a/hidden"]}]))
    assert alone.inputs == {"in": "input", "hidden": "a/hidden"}


def test_a_layer_that_takes_any_number_of_inputs_counts_them() -> None:
    joined = {"type": "concatenation", "inputs": ["input", "lstm_1", "input"]}
    [_, join] = layers_of(network(layers=[LSTM, joined]))
    assert list(join.inputs.values()) == ["input", "lstm_1", "input"]


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([INPUT], "no layer after it"),
        ([LSTM, INPUT], "is not the first"),
        ([{**INPUT, "name": "x"}, {**LSTM, "name": "x"}], "two layers are called 'x'"),
        ([{**LSTM, "name": "lstm_2"}, LSTM], "two layers are called 'lstm_2'"),
        ([{**LSTM, "inputs": ["input", "input"]}], "'lstm_1' .lstm. has 2 inputs"),
        ([{**LSTM, "inputs": []}], "has 0 inputs"),
        ([{**INPUT, "inputs": ["lstm_1"]}, LSTM], "has no inputs"),
        ([{"type": "sequence_input"}, LSTM], "'size' is missing"),
        ([{**INPUT, "normalisation": "zscore"}, LSTM], "did you mean 'normalization'"),
        ([{**INPUT, "mean": 3}, LSTM], "'none' has no use for mean"),
        ([{**INPUT, "normalization": "zscore", "deviation": 0}, LSTM], "not greater than 0"),
        ([{**INPUT, "normalization": "zscore", "mean": [1, 2]}, LSTM], "neither one number"),
        ([{**INPUT, "normalization": "zscore", "mean": ["a"]}, LSTM], "finite"),
        ([{**INPUT, "size": 0}, LSTM], "size"),
        ([{**INPUT, "size": [3]}, LSTM], "H, C"),
    ],
)
def test_a_wrong_list_is_a_sentence_with_the_layer(tables: list[Any], words: str) -> None:
    if words.startswith("two layers are called 'lstm_2'"):
        tables = [*tables, LSTM]
    with pytest.raises(SpecError, match=words) as error:
        check_network(listed(*tables))
    assert error.value.layer is not None


options = st.dictionaries(
    st.sampled_from(["hidden", "share", "size", "note"]),
    st.one_of(st.integers(1, 9), st.text(max_size=3), st.lists(st.integers(), max_size=3)),
)
specs = st.lists(
    st.builds(
        LayerSpec,
        st.text("abc_-1", min_size=1, max_size=5),
        st.sampled_from(["lstm", "dropout", "none_such"]),
        options,
        st.dictionaries(st.sampled_from(["in", "hidden"]), st.text(min_size=1, max_size=4)),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda layer: layer.name,
)


def tables_of(layers: list[LayerSpec]) -> list[dict[str, Any]]:
    return [
        {"type": layer.kind, "name": layer.name}
        | ({"inputs": dict(layer.inputs)} if layer.inputs else {})
        | layer.options
        for layer in layers
    ]


@given(specs)
def test_layers_survive_tables_and_json(layers: list[LayerSpec]) -> None:
    tables = json.loads(json.dumps(tables_of(layers)))
    assert layers_of(network(layers=tables)) == tuple(layers)
    assert [LayerSpec(**json.loads(json.dumps(asdict(layer)))) for layer in layers] == layers


# Features

KNOWN = Known(3, {}, ("hour", "weekday"), 24.0, 48, (5,))


def test_forecasts_see_all_there_is_by_default() -> None:
    features = features_of(config(), KNOWN)
    assert (features.scaling, features.parts) == ("running", PARTS)
    assert (features.clocks, features.lags, features.embedding) == (("hour", "weekday"), 48, 4)
    assert features.width == 3 * 3 + 2 * 2 + 4


@pytest.mark.shows("S10", "S18")
def test_with_a_sequence_input_nothing_else_enters() -> None:
    features = features_of(listed({**INPUT, "size": 3}, LSTM), KNOWN)
    assert (features.scaling, features.parts, features.sizes) == ("none", ("value",), (3,))
    assert (features.clocks, features.lags, features.embedding) == ((), 0, 0)


def test_with_a_sequence_input_more_enters_where_it_is_asked_for() -> None:
    wanted = {"calendar": ["hour"], "lags": 7, "embedding": 2, "parts": ["observed", "value"]}
    entering = {**INPUT, "size": 3, "min_length": 9}
    features = features_of(listed(entering, LSTM, features=wanted), KNOWN)
    assert features.parts == ("value", "observed")
    assert (features.clocks, features.lags, features.embedding) == (("hour",), 7, 2)
    assert (features.width, features.min_length) == (2 * 3 + 2 + 2, 9)


@pytest.mark.parametrize(
    ("tables", "scaling"),
    [
        ({}, "running"),
        ({"features": {"scaling": "rescale-symmetric"}}, "rescale-symmetric"),
        ({"network": {"layers": [INPUT, LSTM]}}, "none"),
        ({"network": {"layers": [{**INPUT, "normalization": "zscore"}, LSTM]}}, "zscore"),
        ({"network": {"layers": [INPUT, LSTM]}, "features": {"scaling": "running"}}, "running"),
        ({"network": {"layers": [{"type": "characters"}, LSTM]}}, "none"),
        ({"task": {"kind": "regression"}, "data": {"path": "x", "past": ["a"]}}, "zscore"),
    ],
)
def test_how_values_are_scaled_by_default(tables: dict[str, Any], scaling: str) -> None:
    assert features_of(config(**tables), Known(1)).scaling == scaling


def test_a_scaling_said_twice_is_refused() -> None:
    twice = listed({**INPUT, "normalization": "zscore"}, LSTM, features={"scaling": "zscore"})
    with pytest.raises(ConfigError, match=r"features\.scaling"):
        features_of(twice, KNOWN)


def test_only_forecasts_have_lags() -> None:
    task = {"task": {"kind": "regression"}, "data": {"path": "x", "past": ["a"]}}
    with pytest.raises(ConfigError, match=r"features\.lags"):
        features_of(config(**task, features={"lags": 3}), KNOWN)


@pytest.mark.shows("S10", "S54")
@pytest.mark.parametrize(
    ("size", "known", "words"),
    [
        (12, Known(14), "size 12, and the data give 14 numbers a step"),
        ([4, 4, 1], Known(12), r"size \[4, 4, 1\], and the data give 12"),
        ([2, 8, 1], Known(16, {"f": (4, 4)}), r"frames in 'f' are \[4, 4\]"),
    ],
)
def test_the_size_is_that_of_the_data(size: Any, known: Known, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        features_of(listed({**INPUT, "size": size}, LSTM), known)


@pytest.mark.shows("S11")
@pytest.mark.parametrize("frames", [{}, {"f": (4, 4)}, {"f": (4, 4, 1)}])
def test_frames_enter_with_their_shape(frames: Any) -> None:
    """Plain columns are the elements of a frame too, row by row."""
    settings = listed({**INPUT, "size": [4, 4, 1]}, {"type": "flatten"}, LSTM)
    assert features_of(settings, Known(16, frames)).sizes == (1, 4, 4)


def test_a_frame_enters_alone() -> None:
    settings = listed(
        {**INPUT, "size": [2, 2, 1]}, {"type": "flatten"}, LSTM, features={"calendar": ["hour"]}
    )
    with pytest.raises(ConfigError, match="a frame enters alone"):
        features_of(settings, Known(4))


# Where a problem is

LINES = """[data]
path = "x"

[[network.layers]]
type = "lstm"
hidden = 4
# a comment

[[network.layers]]
name = "second"
type = "lstm"
hidden = 4

  [network.layers.inputs]
  in = "lstm_1"

[[network.layers]]
type = "dropout"
"""


def test_each_table_of_a_list_has_lines_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(LINES)
    loaded = load(TrainConfig, path, environment={})
    lines = {key: place.rsplit(":", 1)[1] for key, place in loaded.origins.items()}
    assert lines["network.layers.0"] == "4"
    assert lines["network.layers.0.hidden"] == "6"
    assert lines["network.layers.1"] == "9"
    assert lines["network.layers.1.name"] == "10"
    assert lines["network.layers.1.inputs.in"] == "15"
    assert lines["network.layers.2.type"] == "18"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('name = "second"', "name = 3", 10, "name: Input should be a valid string, found 3"),
        ('type = "dropout"', "", 17, "'network.layers.2.type' is missing"),
        ('in = "lstm_1"', "in = 7", 15, "inputs.in: Input should be a valid string"),
    ],
)
def test_a_problem_names_the_line_in_its_table(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(LINES.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load(TrainConfig, path, environment={})
    [problem] = error.value.problems
    assert problem.startswith(f"{path}:{line}: ")
    assert words in problem


def test_inline_tables_have_the_line_of_their_list(tmp_path: Path) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text('[data]\npath = "x"\n[network]\nlayers = [{ type = "lstm", name = 3 }]\n')
    with pytest.raises(ConfigError, match=r"forecast\.toml:4: network\.layers\.0\.name"):
        load(TrainConfig, path, environment={})


def test_what_config_show_prints_is_a_config_with_the_same_layers(tmp_path: Path) -> None:
    path, again = tmp_path / "forecast.toml", tmp_path / "again.toml"
    path.write_text(LINES + 'note = { a = ["x", { b = 1 }] }\n')
    shown = CliRunner().invoke(app, ["config", "show", str(path)])
    assert shown.exit_code == 0, shown.exception
    again.write_text(shown.stdout)
    first, second = (load(TrainConfig, p, environment={}).settings for p in (path, again))
    assert layers_of(first.network) == layers_of(second.network)
    assert first == second
    assert CliRunner().invoke(app, ["config", "schema"]).exit_code == 0


def test_an_option_of_a_listed_layer_can_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "forecast.toml"
    path.write_text(LINES)
    changes = ["network.layers.1.hidden=7", "network.layers.2.share=0.1"]
    loaded = load(TrainConfig, path, overrides=changes, environment={})
    assert [x.options for x in layers_of(loaded.settings.network)] == [
        {"hidden": 4}, {"hidden": 7}, {"share": 0.1},
    ]  # fmt: skip
    for wrong in (
        "network.layers.3.hidden=7",
        "network.layers.lstm_1.hidden=7",
        "network.layers.0=1",
    ):
        with pytest.raises(ConfigError, match="number of a table"):
            load(TrainConfig, path, overrides=[wrong], environment={})
