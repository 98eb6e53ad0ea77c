"""Weights of a model out of it in the layout of another system, and into it from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from forecastd.artifact import Artifact
from forecastd.errors import UserError
from forecastd.exchange import dense, recurrent
from forecastd.exchange.parts import Array, Arrays, Part, chosen, parts_of

Layout = str
LAYOUTS: tuple[Layout, ...] = ("pytorch", "keras", "matlab", "wolfram", "onnx")
"""The systems whose arrays are known."""
_RECURRENT = {"lstm", "bilstm", "gru", "peephole"}


class Imported(NamedTuple):
    """A model with weights of another system; the parts that changed, with that system's arrays."""

    artifact: Artifact
    parts: list[tuple[Part, Arrays]]


def export_part(layout: Layout, part: Part, arrays: Mapping[str, Array]) -> Arrays:
    """Return a part's arrays as a layout has them. Raises UserError where it has none such."""
    if part.form in _RECURRENT:
        return recurrent.give(layout, part, arrays)
    return dense.give(layout, part, arrays)


def import_part(
    layout: Layout, part: Part, theirs: Mapping[str, Array], like: Mapping[str, Array]
) -> Arrays:
    """Return our arrays of a part. like: what they replace, for their shapes and their type.

    Raises UserError where an array is missing, unknown or of another shape.
    """
    wanted = {name: array.shape for name, array in export_part(layout, part, like).items()}
    for name, shape in wanted.items():
        if name not in theirs:
            message = f"the file has no array {name!r} for {part.name!r}"
            raise UserError(message, hint=f"it needs {', '.join(wanted)} in the layout {layout}")
        if theirs[name].shape != shape:
            found = _sizes(theirs[name].shape)
            message = f"{part.name}/{name} has the shape {found}, and {_sizes(shape)} is needed"
            raise UserError(message, hint=f"the layout {layout} and the layer must be the same")
    unknown = sorted(theirs.keys() - wanted.keys())
    if unknown:
        message = f"the file has an array {unknown[0]!r} that {part.name!r} has not"
        raise UserError(message, hint=f"the layout {layout} has {', '.join(wanted)}")
    kind = next(iter(like.values())).dtype
    typed = {name: np.asarray(array, kind) for name, array in theirs.items()}
    take: Callable[..., Arrays] = recurrent.take if part.form in _RECURRENT else dense.take
    return {
        name: np.ascontiguousarray(array) for name, array in take(layout, part, typed, like).items()
    }


def export_weights(artifact: Artifact, layout: Layout, layer: str | None = None) -> Arrays:
    """Return all weights, or those of one part, by "part/array". Raises UserError."""
    parts = parts_of(artifact.spec, artifact.weights)
    return {
        f"{part.name}/{name}": array
        for part in chosen(parts, layer)
        for name, array in export_part(layout, part, part.arrays(artifact.weights)).items()
    }


def import_weights(
    artifact: Artifact, arrays: Mapping[str, Array], layout: Layout, layer: str | None = None
) -> Imported:
    """Return a model with the weights of another system.

    arrays: by "part/array", of some parts or all; for one `layer` the arrays' names alone do.
    The spec stays, and what the model scored does not: it is to be evaluated anew. Raises UserError
    where an array belongs nowhere, is missing from its part, or has another shape.
    """
    parts = parts_of(artifact.spec, artifact.weights)
    given = _by_part(arrays, parts, layer)
    weights = dict(artifact.weights)
    changed = [(parts[name], theirs) for name, theirs in given.items()]
    for part, theirs in changed:
        found = import_part(layout, part, theirs, part.arrays(artifact.weights))
        weights |= {part.full[short]: array for short, array in found.items()}
    imported: dict[str, Any] = {"layout": layout, "layers": list(given)}
    provenance = artifact.provenance | {"imported": imported, "from": artifact.digest}
    fresh = replace(artifact, weights=weights, provenance=provenance, metrics={}, digest="")
    return Imported(fresh, changed)


def _by_part(
    arrays: Mapping[str, Array], parts: Mapping[str, Part], layer: str | None
) -> dict[str, Arrays]:
    """Return the arrays of a file by part and name."""
    found: dict[str, Arrays] = {}
    owners = [part.name for part in chosen(parts, layer)]
    for full, array in arrays.items():
        owner = next((name for name in owners if full.startswith(f"{name}/")), layer)
        if owner is None:
            message = f"the file has an array {full!r}, which belongs to no layer of the model"
            hint = f"call them LAYER/ARRAY, the layers being {', '.join(parts)}, or give --layer"
            raise UserError(message, hint=hint)
        found.setdefault(owner, {})[full.removeprefix(f"{owner}/")] = array
    if not found:
        message = "the file has no arrays"
        raise UserError(message)
    return found


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
