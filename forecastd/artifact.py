"""The artifact: a trained model as a folder of JSON and safetensors; nothing is unpickled.

model.json       format, signature, spec, provenance, metrics, and the SHA-256 of the other files
weights.safetensors   the network's weights and the statistics of the training series
series.json      series keys and categories
example.json     a short stretch of observations and the forecasts expected from it
README.md        the model card

docs/formats/artifact.md is the format's page. Reading checks sizes, digests and shapes and needs no
torch; `load` also runs the example on the network, `check_example` on anything that forecasts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from forecastd import __version__
from forecastd.errors import ArtifactError, DataError
from forecastd.features.calendar import CLOCKS, clock_columns
from forecastd.features.vocabulary import Vocabulary
from forecastd.files import publish_folder, sha256
from forecastd.model_card import card_of
from forecastd.network.device import choose_device
from forecastd.network.kinds.contract import Shapes
from forecastd.network.outputs import SUPERVISED
from forecastd.network.shapes import weight_shapes
from forecastd.network.spec import NetworkSpec
from forecastd.series import FloatArray, Frequency, IntArray, Signature

if TYPE_CHECKING:  # reading a model does not need it
    from forecastd.network.model import ForecastNetwork

FORMAT = 1
WEIGHTS_BYTES_MAX = 512 << 20
JSON_BYTES_MAX = 256 << 20
EXAMPLE_TOLERANCE = 1e-3
"""Of the example's range. Kernels differ between machines in the last bits, no more."""

_HASHED = ("weights.safetensors", "series.json", "example.json")
_STATISTICS = "statistics."
_STATISTICS_NAMES = ("mean", "std", "mase_scale")
_ADDED = ("frames", "task", "classes", "more_targets", "cap")
"""Parts of a signature that are written only where they are not what older ones are."""
_FIELDS: dict[str, type] = {
    "signature": dict,
    "spec": dict,
    "max_gap": int,
    "sha256": dict,
    "digest": str,
    "provenance": dict,
    "metrics": dict,
}


@dataclass
class Artifact:
    """A trained model.

    statistics: float64 [S] arrays by name, in the order of vocabulary.series: mean, std,
    mase_scale of the training part. max_gap: longest hole in steps that is filled as missing.
    weights: arrays by the name they have in the network's state_dict().
    """

    signature: Signature
    spec: NetworkSpec
    vocabulary: Vocabulary
    statistics: dict[str, NDArray[np.float64]]
    max_gap: int
    weights: dict[str, FloatArray]
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    digest: str = ""

    @cached_property
    def network(self) -> ForecastNetwork:
        """The weights as a network of torch, which is imported for it; on the CPU at first."""
        from forecastd.network.model import network_of

        return network_of(self.spec, self.weights)

    def clocks(self, times: IntArray) -> FloatArray:
        """Return the clock columns of times."""
        signature = self.signature
        names = self.spec.features.clocks
        return clock_columns(times, names, signature.frequency, signature.season)


@dataclass
class Example:
    """A stretch of one series. times [T], values [T, C], the channels that enter the network."""

    key: str
    times: IntArray
    values: FloatArray


def save(folder: Path, artifact: Artifact, example: Example) -> Artifact:
    """Write an artifact durably, replacing `folder`; return it with its digest.

    Columns of the example that stand before the channels, answers, are left out.
    """
    inputs = example.values[:, example.values.shape[1] - artifact.spec.features.channels :]
    example = Example(example.key, example.times, np.ascontiguousarray(inputs))
    statistics = {_STATISTICS + name: values for name, values in artifact.statistics.items()}
    arrays = {n: np.ascontiguousarray(a) for n, a in (artifact.weights | statistics).items()}
    with publish_folder(folder) as staging:
        (staging / "weights.safetensors").write_bytes(save_arrays(arrays))
        with (staging / "series.json").open("w", encoding="utf-8") as file:
            file.writelines(artifact.vocabulary.json_parts())
        expected = run_example(artifact, example)
        content = {
            "key": example.key,
            "times": example.times.tolist(),
            "values": _nullable(example.values),
            "expected": expected.tolist(),
        }
        if artifact.signature.supervised:
            content["span"] = _span_of(artifact)
        _write_json(staging / "example.json", content)
        digests = {name: sha256(staging / name) for name in _HASHED}
        model = {
            "format": FORMAT,
            "forecastd": __version__,
            "digest": "",
            "signature": signature_to_json(artifact.signature),
            "spec": artifact.spec.to_json(),
            "max_gap": artifact.max_gap,
            "provenance": artifact.provenance,
            "metrics": artifact.metrics,
            "sha256": digests,
        }
        artifact.digest = model["digest"] = _digest(model)
        _write_json(staging / "model.json", model, indent=2)
        (staging / "README.md").write_text(card_of(artifact), encoding="utf-8")
    return artifact


def load(path: Path, *, device: str = "cpu", check: bool = True) -> Artifact:
    """Read an artifact for use with torch, its network on `device`.

    check: also run the example on the network. Raises ArtifactError as `read` and, where it
    forecasts other numbers than when it was saved, as `check_example`.
    """
    artifact = read(path)
    if check:
        check_example(path, partial(run_example, artifact))
    chosen = choose_device(device)
    if chosen != "cpu":
        artifact.network.to(chosen)
    return artifact


def read(path: Path) -> Artifact:
    """Read an artifact without torch: its folder, or a run's folder that holds `model/`.

    Raises ArtifactError when something is missing, damaged or newer. Whether it still forecasts
    the same is for `check_example` to say.
    """
    folder = _folder(path)
    model = read_model(folder)
    for name in _HASHED:
        if sha256(_existing(folder / name)) != model["sha256"].get(name):
            raise _damaged(folder / name, "its SHA-256 differs from model.json")
    vocabulary = _read_vocabulary(folder / "series.json")
    with _naming(folder / "model.json"):
        spec = NetworkSpec.from_json(model["spec"])
        signature = signature_from_json(model["signature"])
        _require_fit(signature, spec, vocabulary)
        shapes = weight_shapes(spec)
    weights, statistics = _read_weights(folder / "weights.safetensors", shapes, vocabulary)
    return Artifact(
        signature=signature,
        spec=spec,
        vocabulary=vocabulary,
        statistics=statistics,
        max_gap=model["max_gap"],
        weights=weights,
        provenance=model["provenance"],
        metrics=model["metrics"],
        digest=model["digest"],
    )


def check_example(path: Path, forecast: Callable[[Example], NDArray[np.float64]]) -> None:
    """Raise ArtifactError unless `forecast` finds for a model's example what was saved with it.

    forecast: takes the example, returns the forecast [horizon, Q] after its last step; the
    probabilities [1, K] or numbers [1, R] of a task.
    """
    file = _folder(path) / "example.json"
    content = _read_json(file)
    try:
        values = np.array(
            [[np.nan if v is None else v for v in row] for row in content["values"]], np.float32
        )
        example = Example(content["key"], np.array(content["times"], np.int64), values)
        expected = np.array(content["expected"], np.float64)
        found = forecast(example)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise _damaged(file, "the model cannot be tried on it") from error
    good = found.shape == expected.shape and bool(np.isfinite(expected).all())
    if good:
        span = float(np.ptp(expected)) + float(np.abs(expected).max()) * 1e-3 + 1e-12
        span = max(span, float(content.get("span", 0)))
        good = float(np.abs(found - expected).max()) <= EXAMPLE_TOLERANCE * span
    if not good:
        raise _damaged(file, "the model no longer forecasts what it did when it was saved")


def read_model(folder: Path) -> dict[str, Any]:
    """Read model.json alone: cheap, without weights. Raises ArtifactError."""
    path = folder / "model.json"
    if not path.is_file():
        message = f"{folder} is not a model: it has no model.json"
        raise ArtifactError(message, hint="give the folder that `forecast train` printed")
    model = _read_json(path)
    if not isinstance(model, dict) or type(model.get("format")) is not int:
        raise _damaged(path, "it names no format")
    if model["format"] > FORMAT:
        message = f"{folder} has the model format {model['format']}, newer than {FORMAT}"
        raise ArtifactError(message, hint="update forecastd, or train the model again")
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(model.get(name), kind)]
    if wrong:
        raise _damaged(path, f"it lacks {', '.join(wrong)}")
    if model["digest"] != _digest(model):
        raise _damaged(path, "its digest is not that of its content")
    return model


def run_example(artifact: Artifact, example: Example) -> NDArray[np.float64]:
    """Return the forecast [horizon, Q] of the network after the last step of an example."""
    import torch

    from forecastd.features.encoder import Inputs

    network = artifact.network.eval()
    inputs = Inputs(
        torch.from_numpy(example.values[None]),
        torch.from_numpy(artifact.clocks(example.times[None])),
        torch.from_numpy(artifact.vocabulary.encode([example.key])),
    )
    with torch.inference_mode():
        forecast, _ = network.unroll(inputs, network.initial_state(1))
        expected: NDArray[np.float64] = forecast.unscaled()[0, -1].numpy()
    return expected


def signature_to_json(signature: Signature) -> dict[str, Any]:
    """Return plain values, the frequency as text; later additions only where they are set."""
    plain: tuple[object, ...] = ({}, "forecast", (), None)
    values = {n: v for n, v in asdict(signature).items() if n not in _ADDED or v not in plain}
    return values | {"frequency": str(signature.frequency)}


def signature_from_json(data: dict[str, Any]) -> Signature:
    """Read what signature_to_json wrote. Raises ArtifactError."""
    try:
        values = dict(data)
        values["frequency"] = Frequency.parse(values["frequency"])
        values |= {name: tuple(values[name]) for name in ("past", "static", "quantiles")}
        values |= {n: tuple(values[n]) for n in ("classes", "more_targets") if n in values}
        return Signature(**values)
    except (KeyError, TypeError, DataError) as error:
        message = f"the model's signature is not understood: {error}"
        raise ArtifactError(message) from error


def _read_vocabulary(path: Path) -> Vocabulary:
    content = _read_json(path)
    try:
        known = {name: tuple(values) for name, values in content["known"].items()}
        static = {name: tuple(values) for name, values in content["static"].items()}
        return Vocabulary(tuple(content["series"]), static, known)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, "its series and categories are not understood") from error


def _require_fit(signature: Signature, spec: NetworkSpec, vocabulary: Vocabulary) -> None:
    """Raise ArtifactError when the parts of a model are not of one model."""
    features, head = spec.features, spec.head
    outputs = len(signature.classes or signature.targets) if signature.supervised else 0
    pairs = {
        "task": (signature.task, SUPERVISED.get(head.kind, "forecast")),
        "outputs": (outputs, head.outputs),
        "channels": (len(signature.channels), features.channels),
        "horizon": (signature.horizon, head.horizon),
        "quantiles": (signature.quantiles, head.quantiles),
        "lags": (features.lags, head.lags),
        "vocabulary": (vocabulary.sizes, features.vocabulary),
        "clocks": (set(features.clocks) | CLOCKS.keys(), CLOCKS.keys()),
    }
    wrong = [name for name, (one, other) in pairs.items() if one != other]
    if wrong:
        message = f"signature, spec and series do not agree on {', '.join(wrong)}"
        raise ArtifactError(message)


def _read_weights(
    path: Path, shapes: Shapes, vocabulary: Vocabulary
) -> tuple[dict[str, FloatArray], dict[str, NDArray[np.float64]]]:
    """Return the weights of these shapes, and the statistics of the training series."""
    if path.stat().st_size > WEIGHTS_BYTES_MAX:
        raise _damaged(path, f"it is larger than {WEIGHTS_BYTES_MAX} bytes")
    try:
        arrays: dict[str, NDArray[Any]] = load_arrays(path.read_bytes())
    except (SafetensorError, KeyError) as error:  # KeyError: a type that numpy does not have
        raise _damaged(path, str(error)) from error
    series = (len(vocabulary.series),)
    wanted = {name: (shape, "float32") for name, shape in shapes.items()}
    wanted |= {_STATISTICS + name: (series, "float64") for name in _STATISTICS_NAMES}
    if {name: (array.shape, array.dtype.name) for name, array in arrays.items()} != wanted:
        raise _damaged(path, "its arrays are not those of the spec")
    if not all(bool(np.isfinite(array).all()) for array in arrays.values()):
        raise _damaged(path, "it has numbers that are not finite")
    statistics = {name: arrays.pop(_STATISTICS + name) for name in _STATISTICS_NAMES}
    return arrays, statistics


def _digest(model: dict[str, Any]) -> str:
    """Return what identifies a model: its forecasts follow from these parts and no others."""
    shape = {name: model[name] for name in ("signature", "spec", "max_gap")}
    shape["files"] = model["sha256"]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def _span_of(artifact: Artifact) -> float:
    """Return the range of what a task says: of probabilities, or how far answers spread."""
    spread = artifact.weights.get("head.spread")
    return 1.0 if spread is None else float(spread.max())


def _nullable(values: FloatArray) -> list[list[float | None]]:
    return [[float(v) if np.isfinite(v) else None for v in row] for row in values]


def _write_json(path: Path, content: object, indent: int | None = None) -> None:
    text = json.dumps(content, indent=indent, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    if _existing(path).stat().st_size > JSON_BYTES_MAX:
        raise _damaged(path, f"it is larger than {JSON_BYTES_MAX} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error


def _folder(path: Path) -> Path:
    """Return the folder of an artifact: `path`, or the one in a run's folder."""
    return path / "model" if (path / "model" / "model.json").is_file() else path


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise _damaged(path, "it is missing")
    return path


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with the shape of a model into an error that names its file."""
    try:
        yield
    except ArtifactError as error:
        raise _damaged(path, error.message) from error
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise _damaged(path, f"its network cannot be built: {reason}") from error


def _damaged(path: Path, reason: str) -> ArtifactError:
    message = f"{path} is damaged: {reason}"
    return ArtifactError(message, hint="copy the model again, or train it again")
