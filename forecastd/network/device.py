"""Which device a network runs on, and on how many threads."""

from __future__ import annotations

import os
import re

import torch

from forecastd.errors import UserError
from forecastd.network.spec import NetworkSpec


def choose_device(wanted: str) -> torch.device:
    """Return the device for "auto", "cpu", "cuda" or "cuda:1". auto: CUDA where there is one.

    Raises UserError for another word, or where the device is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        message = f"{wanted!r} is not a device"
        raise UserError(message, hint="write auto, cpu, cuda or cuda:1")
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        message = f"there is no device {wanted} on this machine"
        raise UserError(message, hint="use auto or cpu; `forecast doctor` tells more")
    return device


def take_threads(spec: NetworkSpec, wanted: int | None = None) -> None:
    """Set how many CPU threads torch uses in this process; by default those that pay off.

    Layers up to 128 units are too small to share: two threads gain a fifth on an idle machine, and
    where another process wants a core they wait for each other and lose ten times as much.
    """
    widest = max((layer.options.get("hidden", 0) for layer in spec.layers), default=0)
    torch.set_num_threads(wanted or (1 if widest <= 128 else os.cpu_count() or 1))
