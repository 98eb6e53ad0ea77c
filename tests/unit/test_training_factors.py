"""Which parts of a network learn, and how quickly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import as_bytes, prepared, trained

from forecastd.errors import ConfigError
from forecastd.network.model import ForecastNetwork
from forecastd.train_settings import MultiplierSettings, TrainSettings
from forecastd.training.factors import learning_rate_multipliers, trained_parameters

LAYERS = ["lstm_1", "dropout_1", "lstm_2"]
ARRAYS = [
    "encoder/embeddings.0.weight",
    "lstm_1/lstm.weight_ih_l0", "lstm_1/lstm.weight_hh_l0", "lstm_1/lstm.bias_ih_l0",
    "lstm_2/lstm.weight_ih_l0", "lstm_2/lstm.weight_hh_l0", "lstm_2/lstm.bias_ih_l0",
    "head/centre.weight", "head/centre.bias",
]  # fmt: skip


def multipliers(*rules: tuple[str | int, float]) -> dict[str, float]:
    """Return what is not 1."""
    given = [MultiplierSettings(part=part, rate=rate) for part, rate in rules]
    found = learning_rate_multipliers(ARRAYS, LAYERS, given)
    assert list(found) == ARRAYS
    return {array: rate for array, rate in found.items() if rate != 1}


@pytest.mark.shows("S108")
@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("lstm_1", ARRAYS[1:4]),
        ("lstm_2/weight_hh_l0", ARRAYS[5:6]),
        ("lstm_2/lstm.weight_hh_l0", ARRAYS[5:6]),
        ("lstm_*", ARRAYS[1:7]),
        ("lstm_*/bias*", [ARRAYS[3], ARRAYS[6]]),
        ("head", ARRAYS[7:]),
        ("encoder", ARRAYS[:1]),
        (1, ARRAYS[1:4]),
        (3, ARRAYS[4:7]),
        (-1, ARRAYS[4:7]),
        ("2..3", ARRAYS[4:7]),
        ("1..", ARRAYS[1:7]),
        ("..-2", ARRAYS[1:4]),
        ("_", ARRAYS),
    ],
)
def test_a_rule_names_a_layer_an_array_a_pattern_a_number_or_all(
    part: str | int, named: list[str]
) -> None:
    assert multipliers((part, 0.1)) == dict.fromkeys(named, 0.1)


def test_without_a_rule_all_learn_equally() -> None:
    assert multipliers() == {}


def test_the_first_rule_that_names_an_array_counts() -> None:
    found = multipliers(("lstm_1/bias*", 3.0), ("lstm_1", 1.0), ("_", 0.0))
    assert found == {ARRAYS[3]: 3.0, **dict.fromkeys([ARRAYS[0], *ARRAYS[4:]], 0.0)}


@pytest.mark.parametrize("part", ["lstm_3", 4, 0, -4, 2, "lstm_1/weights", "4.."])
def test_a_rule_that_names_nothing_is_an_error(part: str | int) -> None:
    with pytest.raises(ConfigError, match="names no weights of the network") as caught:
        multipliers((part, 0.1))
    assert "lstm_1, lstm_2" in str(caught.value)


def test_a_rate_of_zero_freezes_and_decays_nothing(tmp_path: Path) -> None:
    rules = [{"part": "head/centre*", "rate": 1.0}, {"part": "_", "rate": 0.0}]
    ready = prepared(tmp_path, train={"multipliers": rules, "weight_decay": 0.5, "epochs": 1})
    before = as_bytes(ready.trainer.network.state_dict())
    after = as_bytes(trained(ready).outcome.network.state_dict())
    changed = {name for name in before if before[name] != after[name]}
    unknown = "encoder.embeddings.0.weight"  # its first row becomes the mean of the others
    assert changed - {unknown} == {"head.centre.weight", "head.centre.bias"}


def test_a_negative_rate_climbs(tmp_path: Path) -> None:
    train = {"solver": "sgdm", "schedule": "none", "lr": 0.05, "patience": 0, "epochs": 2}
    down = trained(prepared(tmp_path, train=train))
    up = trained(prepared(tmp_path, train=train | {"multipliers": [{"part": "_", "rate": -1.0}]}))
    losses = [run.outcome.progress.history[-1]["loss"] for run in (down, up)]
    assert losses[0] < losses[1]


def test_nothing_left_to_train_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to train"):
        prepared(tmp_path, train={"multipliers": [{"part": "_", "rate": 0.0}]})


@pytest.mark.trap(28)
def test_a_recurrent_layer_has_three_parameters(tmp_path: Path) -> None:
    found = trained_parameters(prepared(tmp_path).trainer.network, TrainSettings())
    names = [one.name for one in found if one.name.startswith("layers.lstm_1.")]
    assert [name.rpartition(".")[2] for name in names] == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0",
    ]  # fmt: skip


@pytest.mark.trap(29)
def test_biases_carry_no_penalty(tmp_path: Path) -> None:
    network = prepared(tmp_path).trainer.network
    for one in trained_parameters(network, TrainSettings()):
        assert one.penalty == (0.0 if one.parameter.ndim == 1 else 1.0)


def test_a_layer_s_own_factors_count_with_the_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network: ForecastNetwork = prepared(tmp_path).trainer.network
    layer = network.layers.layer("lstm_1")
    rows = torch.ones(32)
    rows[8:16] = 0.0
    name, other = "lstm.weight_ih_l0", "lstm.weight_hh_l0"
    factors: dict[str, Any] = {name: (2.0, 3.0), other: (rows, 1.0)}
    monkeypatch.setattr(layer, "factors", lambda: factors)
    train = TrainSettings(multipliers=[MultiplierSettings(part="lstm_1", rate=0.5)])
    found = {one.name: one for one in trained_parameters(network, train)}
    assert found[f"layers.lstm_1.{name}"].rate == 1.0
    assert found[f"layers.lstm_1.{name}"].penalty == 3.0
    by_row = found[f"layers.lstm_1.{other}"].rate
    assert isinstance(by_row, torch.Tensor)
    assert by_row.shape == (32, 1)
    torch.testing.assert_close(by_row[:, 0], rows / 2)
