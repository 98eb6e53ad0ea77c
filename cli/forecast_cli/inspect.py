"""`forecast inspect`: what a model reads, what it forecasts, and how large it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forecastd.artifact import Artifact


def inspect(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's columns, shape, sizes and metrics; the model is verified first."""
    from forecast_cli.output import print_json, print_table
    from forecastd import artifact
    from forecastd.artifact import signature_to_json

    trained = artifact.load(model)
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
        "metrics": trained.metrics,
        "made_by": {k: v for k, v in trained.provenance.items() if k != "config"},
    }
    if as_json:
        print_json(facts)
        return
    ahead = f"{signature.horizon} steps of {signature.frequency}"
    features = trained.spec.features
    layers = [f"{layer.kind} {_options(layer.options)}" for layer in trained.spec.layers]
    rows = [
        ["forecasts", f"{signature.target}, {ahead} ahead"],
        ["quantiles", ", ".join(map(str, signature.quantiles)) or "none: a point forecast"],
        ["series", signature.id or f"one, called {signature.target}"],
        ["time", f"{signature.time}, season {signature.season}, holes to {trained.max_gap} filled"],
        ["covariates", ", ".join((*signature.past, *signature.static)) or "none"],
        ["features", f"{features.width} inputs, clocks {', '.join(features.clocks) or 'none'}"],
        ["layers", "; ".join(layers)],
        ["head", f"{trained.spec.head.kind}, highway of {trained.spec.head.lags} lags"],
        ["weights", f"{weights:,}"],
        ["state", f"{row_bytes:,} bytes per series"],
        ["stepped by", told],
        ["trained on", f"{len(trained.vocabulary.series):,} series"],
        *([name.replace("_", " "), str(value)] for name, value in trained.metrics.items()),
        ["digest", trained.digest],
    ]
    print_table(["", ""], rows)


def _stepped_by(trained: Artifact) -> tuple[str, str, int]:
    """Return what steps a model on the CPU, the same in words, and the bytes of a series' row."""
    from forecastd.runtime.kernels.program import new_arena, unsupported
    from forecastd.runtime.kernels.vectors import LANES

    missing = unsupported(trained.spec)
    if missing is None:
        told = f"compiled kernels on the CPU, {LANES} numbers at a time, any batch alike"
        return "kernels", told, new_arena(trained.spec, 1).layout.itemsize
    from forecastd.runtime.torch_stepper import TorchStepper

    row_bytes = TorchStepper(trained, 1).arena.layout.itemsize
    return "torch", f"torch on the CPU too: no kernel for {missing}", row_bytes


def _options(options: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())
