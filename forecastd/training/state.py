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
from forecastd.training.solvers import FullBatchSolver, Solver


@dataclass
class Progress:
    """Where a training stands: `chunk` chunks of epoch `epoch` (from 0) are done.

    steps: of the solver. best, best_epoch: of the best validation. without_gain: validations since.
    validated: the step of the newest validation, and `newest` its loss. seconds: spent so far.
    loss_sum, loss_count: of the steps of this epoch. history: a row for each epoch.
    """

    epoch: int = 0
    chunk: int = 0
    steps: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    without_gain: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    validated: int = 0
    newest: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Memory:
    """Everything besides `Progress`: weights now and at best, the solver's memory, lanes, dice."""

    network: ForecastNetwork
    solver: Solver | FullBatchSolver
    lanes: NetworkState | None
    best_weights: dict[str, Tensor]


def save(folder: Path, progress: Progress, memory: Memory) -> None:
    """Write the state of a training durably, replacing the one before."""
    tensors = {f"weights.{k}": v for k, v in memory.network.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in memory.best_weights.items()}
    tensors |= {f"solver.{k}": v for k, v in memory.solver.memory().items()}
    if memory.lanes is not None:
        lanes = flatten(memory.lanes, list(memory.network.layers))
        tensors |= {f"lanes.{k}": v for k, v in lanes.items()}
    tensors["dice"] = torch.get_rng_state()
    if memory.network.device.type == "cuda":
        tensors["dice_gpu"] = torch.cuda.get_rng_state(memory.network.device)
    owned = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with publish_folder(folder) as staging:
        (staging / "state.safetensors").write_bytes(save_tensors(owned))
        (staging / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")


def load(folder: Path, memory: Memory) -> Progress:
    """Fill `memory` from a folder that `save` wrote. Raises ArtifactError when it is damaged."""
    try:
        tensors: dict[str, Tensor] = load_tensors((folder / "state.safetensors").read_bytes())
        progress = Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
        if any(name.startswith("adam.") for name in tensors):
            message = "it was written by an older version"
            raise ValueError(message)
        memory.network.load_state_dict(_under(tensors, "weights."))
        memory.best_weights = _under(tensors, "best.")
        memory.solver.remember(_under(tensors, "solver."))
        lanes = _under(tensors, "lanes.")
        if lanes:
            like = memory.network.initial_state(1)
            device = memory.network.device
            placed = {name: tensor.to(device) for name, tensor in lanes.items()}
            memory.lanes = unflatten(placed, like, list(memory.network.layers))
        torch.set_rng_state(tensors["dice"])
        if "dice_gpu" in tensors and memory.network.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["dice_gpu"], memory.network.device)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        message = f"{folder} does not hold a training that can go on: {error}"
        raise ArtifactError(message, hint="start the training again without --resume") from error
    return progress


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
