"""`forecast inspect`: what a model reads and says, how large it is, and its layers one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from forecastd.artifact import Artifact
    from forecastd.network.overview import Row


def inspect(
    model: Annotated[Path, typer.Argument(help="A model or run folder, or a config.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's columns, layers, sizes and metrics; the model is verified first.

    Of a config (.toml) show the network that it describes; no data are read.
    """
    from forecast_cli.output import print_json, print_table

    facts, rows, layers = _of_config(model) if model.suffix == ".toml" else _of_model(model)
    if as_json:
        print_json({**facts, "layers": [layer.to_json() for layer in layers]})
        return
    print_table(["", ""], rows)
    print()
    columns = ["layer", "type", "fed by", "gives", "parameters", "state", "in a stream"]
    print_table(columns, [*map(_cells, layers), _total(layers)])


def _of_model(path: Path) -> tuple[dict[str, Any], list[list[str]], list[Row]]:
    """Return what a model is: for JSON, as rows of a table, and its layers."""
    from forecastd import artifact
    from forecastd.artifact import signature_to_json
    from forecastd.network.overview import rows_of
    from forecastd.network.shapes import wiring_of

    trained = artifact.load(path)
    layers = rows_of(trained.spec.layers, wiring_of(trained.spec))
    signature = trained.signature
    weights = sum(array.size for array in trained.weights.values())
    stepper, told, row_bytes = _stepped_by(trained)
    facts = {
        "digest": trained.digest,
        "signature": signature_to_json(signature),
        "spec": trained.spec.to_json(),
        "max_gap": trained.max_gap,
        "series_in_training": len(trained.vocabulary.series),
        "weights": weights,
        "state_bytes_per_series": row_bytes,
        "stepped_by": stepper,
        "learning_rate_multipliers": _multipliers(trained),
        "metrics": trained.metrics,
        "made_by": {k: v for k, v in trained.provenance.items() if k != "config"},
    }
    rows = [
        *_says(trained),
        ["series", signature.id or f"one, called {signature.target}"],
        ["time", f"{signature.time}, season {signature.season}, holes to {trained.max_gap} filled"],
        ["covariates", ", ".join((*signature.past, *signature.static)) or "none"],
        ["features", _features(trained.spec.features)],
        ["head", f"{trained.spec.head.kind}, highway of {trained.spec.head.lags} lags"],
        ["weights", f"{weights:,}"],
        ["state", f"{row_bytes:,} bytes per series"],
        ["stepped by", told],
        ["trained on", f"{len(trained.vocabulary.series):,} series"],
        *([name.replace("_", " "), str(value)] for name, value in trained.metrics.items()),
        ["digest", trained.digest],
    ]
    return facts, rows, layers


def _multipliers(trained: Artifact) -> dict[str, float]:
    """Return how much quicker or slower each array was to learn, 0 where it does not."""
    from forecastd.config import TrainConfig
    from forecastd.training.factors import array_name, learning_rate_multipliers

    try:
        train = TrainConfig.model_validate(trained.provenance["config"]).train
    except (KeyError, ValueError):  # of an older version, or made by hand
        return {}
    parameters = {array_name(name): p for name, p in trained.network.named_parameters()}
    found = learning_rate_multipliers(parameters, list(trained.network.layers), train.multipliers)
    return {name: rate if parameters[name].requires_grad else 0.0 for name, rate in found.items()}


def _says(trained: Artifact) -> list[list[str]]:
    signature = trained.signature
    if signature.supervised:
        classes = f": {', '.join(signature.classes)}" if signature.classes else ""
        return [[signature.task, ", ".join(signature.targets) + classes]]
    ahead = f"{signature.horizon} steps of {signature.frequency}"
    return [
        ["forecasts", f"{signature.target}, {ahead} ahead"],
        ["quantiles", ", ".join(map(str, signature.quantiles)) or "none: a point forecast"],
    ]


def _features(features: Any) -> str:
    clocks = ", ".join(features.clocks) or "none"
    return f"{features.width} inputs, scaling {features.scaling}, clocks {clocks}"


def _of_config(path: Path) -> tuple[dict[str, Any], list[list[str]], list[Row]]:
    """Return the network that a config describes, as `_of_model` does."""
    from dataclasses import asdict

    from forecastd.config import TrainConfig, load
    from forecastd.network.expand import check_located
    from forecastd.network.overview import rows_of

    loaded = load(TrainConfig, path)
    draft, config = check_located(loaded), loaded.settings
    guessed = draft.features.clocks != () and config.features.calendar is None
    head = config.network.head.kind if config.task.kind == "forecast" else config.task.kind
    facts = {
        "task": config.task.kind,
        "features": asdict(draft.features),
        "clocks_guessed": guessed,
    }
    guess = "; the clocks follow from the data, these are a guess" if guessed else ""
    rows = [
        ["task", config.task.kind],
        ["features", _features(draft.features) + guess],
        ["head", head],
    ]
    return facts, rows, rows_of(draft.layers, draft.wiring)


def _cells(row: Row) -> list[object]:
    fed = [name if port == "in" else f"{port} = {name}" for port, name in row.inputs.items()]
    shapes = {
        port: str(shape) if shape.sizes else "a number" for port, shape in row.outputs.items()
    }
    gives = [text if port == "out" else f"{port} = {text}" for port, text in shapes.items()]
    stream = "yes" if row.reason is None else f"no: {row.reason}"
    numbers = [f"{row.parameters:,}", f"{row.state:,}"]
    return [row.name, row.kind, ", ".join(fed), "; ".join(gives), *numbers, stream]


def _total(layers: list[Row]) -> list[object]:
    parameters, state = (sum(getattr(x, name) for x in layers) for name in ("parameters", "state"))
    stream = "yes" if all(layer.reason is None for layer in layers) else "no"
    return ["all", "", "", "", f"{parameters:,}", f"{state:,}", stream]


def _stepped_by(trained: Artifact) -> tuple[str, str, int]:
    """Return what steps a model on the CPU, the same in words, and the bytes of a series' row."""
    from forecastd.runtime.kernels.program import new_arena
    from forecastd.runtime.kernels.support import unsupported
    from forecastd.runtime.kernels.vectors import LANES

    missing = unsupported(trained.spec)
    if missing is None:
        told = f"compiled kernels on the CPU, {LANES} numbers at a time, any batch alike"
        return "kernels", told, new_arena(trained.spec, 1).layout.itemsize
    from forecastd.runtime.torch_stepper import TorchStepper

    row_bytes = TorchStepper(trained, 1).arena.layout.itemsize
    return "torch", f"torch on the CPU too: no kernel for {missing}", row_bytes
