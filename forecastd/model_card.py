"""The model card: what a trained model is, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forecastd.artifact import Artifact
    from forecastd.series import Signature

_TAGS = {
    "forecast": "time-series-forecasting, lstm",
    "regression": "time-series-regression, lstm",
    "classification": "time-series-classification, lstm",
}


def card_of(artifact: Artifact) -> str:
    """Return the model card as Markdown, with the metadata that model hubs read on top."""
    signature = artifact.signature
    facts = _facts(signature) | {
        "series in training": str(len(artifact.vocabulary.series)),
        "weights": f"{sum(array.size for array in artifact.weights.values()):,}",
        "digest": f"`{artifact.digest[:16]}`",
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    metrics = "\n".join(f"| {name} | {value} |" for name, value in artifact.metrics.items())
    return f"""---
library_name: forecastd
tags: [{_TAGS[signature.task]}]
---
# {_title(signature)}

{_what(artifact)}

| | |
|---|---|
{rows}

## Validation

| metric | value |
|---|---|
{metrics}

Use it: `forecast predict THIS_FOLDER DATA -o OUT.parquet`, or name it in `forecastd.toml`.
"""


def _title(signature: Signature) -> str:
    if signature.supervised:
        return f"{signature.task.capitalize()} of {_names(signature.targets)}"
    ahead = f"{signature.horizon} steps of {signature.frequency} ahead"
    return f"Forecast of `{signature.target}`, {ahead}"


def _what(artifact: Artifact) -> str:
    """Say in a sentence what the network does."""
    kinds = list(dict.fromkeys(layer.kind for layer in artifact.spec.layers))
    if not artifact.signature.supervised and set(kinds) <= {"lstm", "dropout"}:
        return "An LSTM that keeps one state per series and advances it one step per observation."
    return f"A network of the layers {', '.join(kinds) or 'none'}, and a head that says the result."


def _facts(signature: Signature) -> dict[str, str]:
    inputs = _names(signature.past) or "none"
    if signature.task == "classification":
        classes = ", ".join(signature.classes)
        return {"label": _names(signature.targets), "classes": classes, "inputs": inputs}
    if signature.task == "regression":
        capped = {} if signature.cap is None else {"cap": f"answers above {signature.cap:g} are it"}
        return {"responses": _names(signature.targets), "inputs": inputs, **capped}
    return {
        "target": f"`{signature.target}`",
        "covariates": inputs,
        "horizon": f"{signature.horizon} steps of {signature.frequency}",
        "quantiles": ", ".join(map(str, signature.quantiles)) or "none (point forecast)",
    }


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in columns)
