"""Which device a network runs on."""

from __future__ import annotations

import re

import torch

from forecastd.errors import UserError


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
