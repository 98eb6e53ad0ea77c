from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from networks import SPECS, specs

from forecastd.errors import ArtifactError
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec, lstm_chain

GOOD = SPECS["two_layers"]


@pytest.mark.shows("S124")
@given(spec=specs)
def test_a_spec_survives_json(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.to_json().items() if name != key}


@pytest.mark.parametrize(
    "data",
    [
        {},
        without("features"),
        without("layers"),
        without("head"),
        {**GOOD.to_json(), "features": None},
        {**GOOD.to_json(), "layers": [1]},
        {**GOOD.to_json(), "layers": [{"name": "x"}]},
        {**GOOD.to_json(), "head": {"kind": "point"}},
        {**GOOD.to_json(), "head": {**GOOD.to_json()["head"], "surprise": 1}},
        {**GOOD.to_json(), "features": {**GOOD.to_json()["features"], "clocks": 3}},
    ],
)
def test_a_spec_that_is_not_understood_is_an_artifact_error(data: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="spec is not understood"):
        NetworkSpec.from_json(data)


def test_an_unknown_layer_is_named() -> None:
    spec = dataclasses.replace(GOOD, layers=(LayerSpec("first", "transformer", {}),))
    with pytest.raises(ArtifactError, match=r"'first' has the unknown kind 'transformer'.*lstm"):
        ForecastNetwork(spec)


def test_an_unknown_head_is_named() -> None:
    spec = dataclasses.replace(GOOD, head=HeadSpec("oracle", 1, (), 0))
    with pytest.raises(ArtifactError, match=r"unknown kind 'oracle'.*quantile"):
        ForecastNetwork(spec)


@pytest.mark.parametrize(
    "options", [{}, {"hidden": "many"}, {"hidden": 4, "outputs": "last"}, {"hidden": -3}]
)
def test_options_that_do_not_fit_the_layer_are_an_artifact_error(options: dict[str, Any]) -> None:
    spec = dataclasses.replace(GOOD, layers=(LayerSpec("first", "lstm", options),))
    with pytest.raises(ArtifactError, match="'first'"):
        ForecastNetwork(spec)


@pytest.mark.shows("S16", "S124")
def test_the_short_form_expands_to_named_layers() -> None:
    chain = lstm_chain(16, 2, 0.1, "last")
    assert [layer.name for layer in chain] == ["lstm_1", "dropout_1", "lstm_2", "dropout_2"]
    assert [layer.options.get("output") for layer in chain] == ["sequence", None, "last", None]
    assert lstm_chain(16, 1, 0.0, "sequence") == (
        LayerSpec("lstm_1", "lstm", {"hidden": 16, "output": "sequence"}),
    )
