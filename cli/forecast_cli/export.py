"""`forecast export`: one step of a model's network as an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # help does not need it
    from forecastd.artifact import Artifact

DIFFERENCE_MAX = 1e-4
"""A graph that is further off is wrong; 1e-6 is usual."""


def export(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .onnx file to write.")],
    features: Annotated[
        bool, typer.Option("--features", help="The features too: raw values in, data's units out.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write one step of the network as ONNX: x and states in, the answer and next states out."""
    from forecast_cli.output import note, print_json
    from forecastd import artifact
    from forecastd.errors import BugError
    from forecastd.files import write_durably

    trained = artifact.load(model, check=False)
    content, difference = _exported(trained, features=features)
    if difference > DIFFERENCE_MAX:
        message = f"the ONNX graph is {difference:.1e} away from the network"
        raise BugError(message)
    write_durably(output, content)
    if as_json:
        print_json({"path": output, "bytes": len(content), "difference": difference})
        return
    note(f"{len(content):,} bytes, at most {difference:.1e} from the network over 50 steps")
    if not features:
        note("how x and lags are made of observations: docs/guides/weights.md")
    print(output)


def _exported(trained: Artifact, *, features: bool) -> tuple[bytes, float]:
    """Return the graph and how far it is from the network. Raises UserError without onnx."""
    from forecastd.errors import UserError

    try:
        from forecastd.exchange.onnx_check import difference, difference_of_all
        from forecastd.exchange.onnx_step import export_step
    except ModuleNotFoundError as error:
        message = f"the package {error.name} is not installed"
        raise UserError(message, hint="pip install 'forecastd[onnx]'") from error
    about = _about(trained, features=features)
    content = export_step(trained.spec, trained.weights, about, features=features)
    compare = difference_of_all if features else difference
    return content, compare(content, trained.network)


def _about(trained: Artifact, *, features: bool) -> dict[str, str]:
    """Return the texts that tell what goes in and what comes out."""
    from forecastd.artifact import signature_to_json
    from forecastd.exchange.inputs import input_names

    spec = trained.spec
    said = {"classes": "the probability of each class", "responses": "each target"}
    units = "in the units of the data" if features else "scaled: y * spread + location"
    signature = trained.signature
    told = {
        "values": list(signature.channels),
        "clocks": [f"{wave}({c})" for c in spec.features.clocks for wave in ("sin", "cos")],
        "codes": [signature.id or signature.target, *signature.static],
    }
    known = told if features else {"x": input_names(signature, spec.features)}
    return {
        "digest": trained.digest,
        **{name: json.dumps(names) for name, names in known.items()},
        "y": said.get(spec.head.kind, f"[horizon, quantile], {units}"),
        "start": json.dumps(_start(trained)),
        "signature": json.dumps(signature_to_json(signature)),
        "features": json.dumps(spec.to_json()["features"]),
    }


def _start(trained: Artifact) -> dict[str, list[Any]]:
    """Return the states that do not begin at zeros, by the name they have in the graph."""
    from forecastd.exchange.onnx_step import state_name

    layers = trained.network.layers
    return {
        state_name(node, field): values.tolist()
        for node, state in zip(layers.wiring.nodes, layers.initial_state(1), strict=True)
        for field in node.facts.state
        if (values := getattr(state, field)[0]).any()
    }
