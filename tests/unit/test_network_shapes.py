"""The table of shapes says what the modules have, so a model can be read without them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from networks import SPECS, specs

from forecastd.errors import ArtifactError
from forecastd.network import heads, layers, shapes
from forecastd.network.kinds import KINDS
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import NetworkSpec

GOOD = SPECS["two_layers"]


@given(spec=specs)
def test_the_shapes_are_those_of_the_modules(spec: NetworkSpec) -> None:
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # empty layers may be
        made = ForecastNetwork(spec).state_dict()
    assert shapes.weight_shapes(spec) == {name: tuple(t.shape) for name, t in made.items()}


def test_every_kind_is_in_both_tables() -> None:
    assert KINDS.keys() == layers.LAYERS.keys()
    assert shapes.HEADS.keys() == heads.HEADS.keys()


FEATURES = [
    {"channels": 0},
    {"channels": True},
    {"lags": -1},
    {"lags": 2.5},
    {"embedding": "3"},
    {"half_life": 0},
    {"half_life": "1"},
    {"half_life": float("nan")},
    {"vocabulary": (0,)},
    {"vocabulary": ("a",)},
]
HEADS = [
    {"horizon": 0},
    {"horizon": "5"},
    {"horizon": 1 << 31},
    {"lags": None},
    {"quantiles": ("0.5",)},
]
LAYERS = [
    {"name": "a.b"},
    {"name": ""},
    {"options": {"hidden": 1 << 40}},
    {"options": {"hidden": True}},
    {"options": {"hidden": 4, "output": "first"}},
    {"kind": "dropout", "options": {"share": 1.5}},
    {"kind": "dropout", "options": {"share": "0.5"}},
]


@pytest.mark.parametrize("changes", FEATURES, ids=str)
def test_features_out_of_range_are_an_artifact_error(changes: dict[str, Any]) -> None:
    features = dataclasses.replace(GOOD.features, **changes)
    with pytest.raises(ArtifactError, match=next(iter(changes))):
        shapes.weight_shapes(dataclasses.replace(GOOD, features=features))


@pytest.mark.parametrize("changes", HEADS, ids=str)
def test_a_head_out_of_range_is_an_artifact_error(changes: dict[str, Any]) -> None:
    head = dataclasses.replace(GOOD.head, **changes)
    with pytest.raises(ArtifactError, match=next(iter(changes))):
        shapes.weight_shapes(dataclasses.replace(GOOD, head=head))


@pytest.mark.parametrize("changes", LAYERS, ids=str)
def test_a_layer_out_of_range_is_an_artifact_error(changes: dict[str, Any]) -> None:
    layer = dataclasses.replace(GOOD.layers[0], **changes)
    with pytest.raises(ArtifactError, match="layer"):
        shapes.weight_shapes(dataclasses.replace(GOOD, layers=(layer,)))


def test_the_spec_and_its_shapes_need_no_torch() -> None:
    code = "import sys, forecastd.network.shapes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
