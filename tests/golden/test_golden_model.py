"""A model saved by the first release of its format still loads and forecasts what it did."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from forecastd import artifact
from forecastd.runtime.torch_stepper import TorchStepper

HERE = Path(__file__).parent
MODEL = HERE / "model_format_1"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_artifact", HERE / "make_artifact.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return json.loads((HERE / "forecasts_format_1.json").read_text())


def test_it_still_forecasts_what_it_did(maker: ModuleType, content: dict[str, Any]) -> None:
    stepper = TorchStepper(artifact.load(MODEL), 3)
    result = stepper.step(maker.batch_of(content))
    assert result.refused == []
    assert result.resets == content["resets"] > 0
    assert result.filled > 0
    np.testing.assert_allclose(result.forecasts.values, content["forecasts"], rtol=maker.RTOL)


def test_what_it_says_of_itself_is_still_understood() -> None:
    loaded = artifact.load(MODEL)
    signature = loaded.signature
    assert signature.channels == ("load", "heat")
    assert (signature.id, signature.static, signature.time_zone) == ("station", ("coast",), True)
    assert (str(signature.frequency), signature.season, signature.horizon) == ("1h", 24, 3)
    assert signature.quantiles == (0.1, 0.5, 0.9)
    assert loaded.vocabulary.series == ("north", "south")
    assert loaded.vocabulary.known == {"coast": ("yes", None)}
    assert loaded.statistics["std"].tolist() == [7.0, 7.5]
    assert loaded.max_gap == 3


def test_it_is_small_and_its_maker_makes_its_observations(
    maker: ModuleType, content: dict[str, Any]
) -> None:
    files = [path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 60_000
    keys, times, values = maker.observations()
    assert (content["keys"], content["times"], content["values"]) == (keys, times, values)
