"""Which device a network runs on, and on how many threads."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from forecastd.errors import UserError
from forecastd.network.spec import NetworkSpec

_GPU_LIBRARIES = ("libtorch_cuda.so", "libtorch_hip.so")
_GPU_NODES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "dxg", "kfd")
"""Device nodes of desktop and server cards, of boards, of WSL, and of AMD."""


def choose_device(wanted: str) -> str:
    """Return "cpu" or "cuda" or "cuda:1" for one of these, or for "auto": CUDA where there is one.

    Imports torch only where a GPU is asked for or may be there. Raises UserError for another
    word, or where the device is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        message = f"{wanted!r} is not a device"
        raise UserError(message, hint="write auto, cpu, cuda or cuda:1")
    if wanted == "cpu" or (wanted == "auto" and not gpu_is_possible()):
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    index = int(wanted.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        message = f"there is no device {wanted} on this machine"
        raise UserError(message, hint="use auto or cpu; `forecast doctor` tells more")
    return wanted


def gpu_is_possible(nodes: Path = Path("/dev")) -> bool:
    """Whether torch could find a GPU: its build knows of GPUs and the machine has a device node.

    False is certain; True is for torch to decide, whose import takes a second.
    """
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return False
    libraries = Path(torch.origin).parent / "lib"
    if not any((libraries / name).exists() for name in _GPU_LIBRARIES):
        return False
    return any(True for pattern in _GPU_NODES for _ in nodes.glob(pattern))


def take_threads(spec: NetworkSpec, wanted: int | None = None) -> None:
    """Set how many CPU threads torch uses in this process; by default those that pay off.

    Layers up to 128 units are too small to share: two threads gain a fifth on an idle machine, and
    where another process wants a core they wait for each other and lose ten times as much.
    """
    import torch

    widest = max((layer.options.get("hidden", 0) for layer in spec.layers), default=0)
    torch.set_num_threads(wanted or (1 if widest <= 128 else os.cpu_count() or 1))
