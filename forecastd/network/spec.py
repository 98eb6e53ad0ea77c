"""The shape of a network as data: what an artifact stores and `build` turns into modules."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from forecastd.errors import ArtifactError
from forecastd.features.spec import FeatureSpec


@dataclass(frozen=True)
class LayerSpec:
    """One named layer: `kind` is a key of layers.LAYERS, `options` its arguments."""

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HeadSpec:
    """kind: a key of heads.HEADS. quantiles: empty for a point head. lags: L, the highway's."""

    kind: str
    horizon: int
    quantiles: tuple[float, ...]
    lags: int


@dataclass(frozen=True)
class NetworkSpec:
    """Features, a chain of layers, and a head."""

    features: FeatureSpec
    layers: tuple[LayerSpec, ...]
    head: HeadSpec

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NetworkSpec:
        """Read what to_json wrote. Raises ArtifactError when something is missing or unknown."""
        try:
            features = dict(data["features"])
            features["clocks"] = tuple(features["clocks"])
            features["vocabulary"] = tuple(features["vocabulary"])
            head = dict(data["head"])
            head["quantiles"] = tuple(head["quantiles"])
            layers = tuple(LayerSpec(**layer) for layer in data["layers"])
            return cls(FeatureSpec(**features), layers, HeadSpec(**head))
        except (KeyError, TypeError, ValueError) as error:
            message = f"the network's spec is not understood: {error}"
            raise ArtifactError(message) from error


def lstm_chain(hidden: int, layers: int, dropout: float, output: str) -> tuple[LayerSpec, ...]:
    """Expand the short form `kind = "lstm", hidden, layers, dropout` into named layers."""
    chain = []
    for number in range(1, layers + 1):
        mode = output if number == layers else "sequence"
        chain.append(LayerSpec(f"lstm_{number}", "lstm", {"hidden": hidden, "output": mode}))
        if dropout > 0:
            chain.append(LayerSpec(f"dropout_{number}", "dropout", {"share": dropout}))
    return tuple(chain)
