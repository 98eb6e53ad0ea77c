"""What a training remembers between two steps, as safetensors and JSON: resume is bit for bit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from forecastd.errors import ArtifactError
from forecastd.files import publish_folder
from forecastd.network.model import ForecastNetwork, NetworkState, flatten, unflatten


@dataclass
class Progress:
    """Where a training stands: `chunk` chunks of epoch `epoch` (from 0) are done."""

    epoch: int = 0
    chunk: int = 0
    steps: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    without_gain: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Memory:
    """Everything besides `Progress`: weights now and at best, Adam's moments, lanes, dice."""

    network: ForecastNetwork
    optimizer: torch.optim.Optimizer
    lanes: NetworkState | None
    best_weights: dict[str, Tensor]


def save(folder: Path, progress: Progress, memory: Memory) -> None:
    """Write the state of a training durably, replacing the one before."""
    tensors = {f"weights.{k}": v for k, v in memory.network.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in memory.best_weights.items()}
    for place, entry in memory.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{place}.{name}": value for name, value in entry.items()}
    if memory.lanes is not None:
        lanes = flatten(memory.lanes, list(memory.network.layers))
        tensors |= {f"lanes.{k}": v for k, v in lanes.items()}
    tensors["dice"] = torch.get_rng_state()
    owned = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with publish_folder(folder) as staging:
        (staging / "state.safetensors").write_bytes(save_tensors(owned))
        (staging / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")


def load(folder: Path, memory: Memory) -> Progress:
    """Fill `memory` from a folder that `save` wrote. Raises ArtifactError when it is damaged."""
    try:
        tensors: dict[str, Tensor] = load_tensors((folder / "state.safetensors").read_bytes())
        progress = Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
        memory.network.load_state_dict(_under(tensors, "weights."))
        memory.best_weights = _under(tensors, "best.")
        adam = memory.optimizer.state_dict()
        adam["state"] = _moments(_under(tensors, "adam."))
        memory.optimizer.load_state_dict(adam)
        lanes = _under(tensors, "lanes.")
        if lanes:
            like = memory.network.initial_state(1)
            device = memory.network.device
            placed = {name: tensor.to(device) for name, tensor in lanes.items()}
            memory.lanes = unflatten(placed, like, list(memory.network.layers))
        torch.set_rng_state(tensors["dice"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        message = f"{folder} does not hold a training that can go on: {error}"
        raise ArtifactError(message, hint="start the training again without --resume") from error
    return progress


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _moments(flat: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        place, _, moment = name.partition(".")
        state.setdefault(int(place), {})[moment] = tensor
    return state
