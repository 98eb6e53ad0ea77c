"""The shape of a network as data: what an artifact stores and `build` turns into modules."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from forecastd.errors import ArtifactError
from forecastd.features.spec import FeatureSpec


@dataclass(frozen=True)
class LayerSpec:
    """One named layer: `kind` is a key of kinds.KINDS, `options` those of its kind.

    inputs: "layer" or "layer/port" by port, where it does not just take what the one before gives.
    """

    name: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HeadSpec:
    """What is made of the last layer's output.

    kind: a key of heads.HEADS. quantiles: empty for a point head. lags: L, the highway's. outputs:
    how many responses or classes, where the target is not forecast. linear: False where the last
    layer gives what the head would map to.
    """

    kind: str
    horizon: int
    quantiles: tuple[float, ...] = ()
    lags: int = 0
    outputs: int = 0
    linear: bool = True


@dataclass(frozen=True)
class NetworkSpec:
    """Features, layers (see network.wiring for how they are connected), and a head."""

    features: FeatureSpec
    layers: tuple[LayerSpec, ...]
    head: HeadSpec

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and dictionaries; what is empty or the default is left out."""
        data = asdict(self)
        for layer in data["layers"]:
            if not layer["inputs"]:
                del layer["inputs"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NetworkSpec:
        """Read what to_json wrote. Raises ArtifactError when something is missing or unknown."""
        try:
            features = dict(data["features"])
            for name in ("clocks", "vocabulary", "parts", "frame"):
                if name in features:
                    features[name] = tuple(features[name])
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
