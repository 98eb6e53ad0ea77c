from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from forecastd.errors import UserError
from forecastd.network.device import choose_device, gpu_is_possible


def test_a_gpu_that_torch_finds_was_possible() -> None:
    assert gpu_is_possible() >= torch.cuda.is_available()
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("library", "node", "possible"),
    [
        ("libtorch_cuda.so", "nvidia0", True),
        ("libtorch_cuda.so", "dxg", True),
        ("libtorch_hip.so", "kfd", True),
        ("libtorch_cuda.so", "nvidia-caps", False),
        ("libtorch_cpu.so", "nvidia0", False),
        ("libtorch_cuda.so", "null", False),
    ],
)
def test_a_gpu_needs_a_build_and_a_node(
    library: str, node: str, possible: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (f"torch/lib/{library}", f"dev/{node}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(tmp_path / "torch/__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    assert gpu_is_possible(tmp_path / "dev") is possible


def test_the_cpu_is_chosen_without_torch() -> None:
    code = """
import sys
from forecastd.network.device import choose_device, gpu_is_possible
assert choose_device("cpu") == "cpu"
if not gpu_is_possible():
    assert choose_device("auto") == "cpu"
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_another_word_is_refused(wanted: str) -> None:
    with pytest.raises(UserError, match="is not a device"):
        choose_device(wanted)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="there is no device cuda:99"):
        choose_device("cuda:99")
