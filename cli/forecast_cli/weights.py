"""`forecast weights`: a model's weights out of it and into it, in the layouts of other systems."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need them
    import numpy as np
    from numpy.typing import NDArray

    from forecastd.artifact import Artifact, Example


class Layout(StrEnum):
    """The systems whose arrays are known."""

    PYTORCH = "pytorch"
    KERAS = "keras"
    MATLAB = "matlab"
    WOLFRAM = "wolfram"
    ONNX = "onnx"


LayoutOption = Annotated[
    Layout, typer.Option(help="The system whose names, orders of gates and axes the arrays have.")
]
LayerOption = Annotated[
    str | None, typer.Option(help="One layer alone, or a map of the head, as head.centre.")
]


def export(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file to write: .npz, .safetensors, .json.")
    ],
    layout: LayoutOption = Layout.PYTORCH,
    layer: LayerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the arrays as JSON.")] = False,
) -> None:
    """Write a model's weights as arrays, called LAYER/ARRAY, for another system."""
    from forecast_cli.output import note, print_json
    from forecastd import artifact
    from forecastd.exchange.files import write_arrays
    from forecastd.exchange.transfer import export_weights

    arrays = export_weights(artifact.read(model), layout.value, layer)
    write_arrays(output, arrays)
    shapes = {name: array.shape for name, array in arrays.items()}
    if as_json:
        print_json({"path": output, "layout": layout.value, "arrays": shapes})
        return
    numbers = sum(array.size for array in arrays.values())
    note(f"{len(arrays)} arrays, {numbers:,} numbers in the layout {layout.value}")
    print(output)


def import_(
    model: Annotated[Path, typer.Argument(help="The model whose weights are replaced.")],
    file: Annotated[Path, typer.Argument(help="Their arrays: .npz, .safetensors or .json.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder of the new model; MODEL stays.")
    ],
    layout: LayoutOption = Layout.PYTORCH,
    layer: LayerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a model with the weights of another system, compared with that system's formulas."""
    from forecast_cli.output import note, print_json
    from forecastd import artifact
    from forecastd.exchange.check import compare
    from forecastd.exchange.files import read_arrays
    from forecastd.exchange.transfer import import_weights

    before = artifact.read(model)
    example = _example_of(model, before)
    imported = import_weights(before, read_arrays(file), layout.value, layer)
    compared = compare(imported, example, layout.value)
    artifact.save(output, imported.artifact, example)
    names = [part.name for part, _ in imported.parts]
    if as_json:
        compared_by = {each.part: each.difference for each in compared}
        print_json({"path": output, "parts": names, "differences": compared_by})
        return
    note(f"{len(names)} layers from {file}: {', '.join(names)}")
    for each in compared:
        told = f"{each.part}: at most {each.difference:.1e} from the formulas of {layout.value}"
        note(f"{told}, over {each.outputs:,} outputs of the example")
    note("what the model scored before is left out: run forecast evaluate")
    print(output)


def _example_of(model: Path, trained: Artifact) -> Example:
    """Return the example of a model, which is tried with the model's own weights first."""
    from forecastd import artifact

    found = []

    def forecast(example: Example) -> NDArray[np.float64]:
        found.append(example)
        return artifact.run_example(trained, example)

    artifact.check_example(model, forecast)
    return found[0]
