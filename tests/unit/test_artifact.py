from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import example, model
from networks import SPECS, inputs
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from forecastd import artifact
from forecastd.artifact import Artifact
from forecastd.errors import ArtifactError, UserError
from forecastd.series import Frequency, Signature

FILES = ("model.json", "weights.safetensors", "series.json", "example.json")
Content = dict[str, Any]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    artifact.save(tmp_path / "model", model(), example())
    return tmp_path / "model"


def forecast(loaded: Artifact) -> torch.Tensor:
    x = inputs(3, 30, 0, torch.float32)
    with torch.inference_mode():
        return loaded.network.unroll(x, loaded.network.initial_state(3))[0].unscaled()


@pytest.mark.parametrize("name", SPECS)
def test_a_model_survives_the_disk(name: str, tmp_path: Path) -> None:
    trained = model(name)
    expected = forecast(trained)
    artifact.save(tmp_path / "model", trained, example())
    loaded = artifact.load(tmp_path / "model")
    assert torch.equal(forecast(loaded), expected)
    for part in ("signature", "spec", "vocabulary", "max_gap", "provenance", "metrics", "digest"):
        assert getattr(loaded, part) == getattr(trained, part), part
    assert loaded.statistics.keys() == trained.statistics.keys()
    for name_of, values in trained.statistics.items():
        np.testing.assert_array_equal(loaded.statistics[name_of], values)


def test_a_run_s_folder_will_do(saved: Path) -> None:
    assert artifact.load(saved.parent).digest == artifact.load(saved).digest


def test_the_digest_depends_on_weights_and_shape_alone(tmp_path: Path) -> None:
    def digest(trained: Artifact) -> str:
        return artifact.save(tmp_path / "model", trained, example()).digest

    same, other = model(), model()
    same.provenance, same.metrics = {"python": "3.99"}, {"seconds": 8}
    other.max_gap += 1
    assert digest(model()) == digest(same)
    assert len({digest(model()), digest(model(seed=1)), digest(other)}) == 3


def test_saving_replaces_an_older_model(saved: Path) -> None:
    (saved / "left.txt").write_text("from before")
    artifact.save(saved, model(seed=1), example())
    assert {path.name for path in saved.iterdir()} == {*FILES, "README.md"}
    assert torch.equal(forecast(artifact.load(saved)), forecast(model(seed=1)))


def test_the_model_card_names_what_it_forecasts(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    assert "Forecast of `y`, 5 steps of 1h ahead" in card
    assert artifact.load(saved).digest[:16] in card


def test_loading_never_unpickles(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        message = "a pickle was about to be read"
        raise AssertionError(message)

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("pickle.Unpickler", refuse)
    assert artifact.load(saved).max_gap == 3


def test_an_unwritable_place_is_the_user_s_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cannot write"):
        artifact.save(tmp_path / "file" / "model", model(), example())


@pytest.mark.parametrize("frequency", ["1h", "15min", "1mo", "1y", "3"])
def test_a_signature_survives_json(frequency: str) -> None:
    signature = Signature(
        None, "t", "y", ("a", "b"), ("s",), Frequency.parse(frequency), 7, 3, (0.1, 0.5), True
    )
    text = json.dumps(artifact.signature_to_json(signature))
    assert artifact.signature_from_json(json.loads(text)) == signature


def test_reading_needs_no_torch(saved: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from forecastd import artifact
read = artifact.read(Path({str(saved)!r}))
assert read.weights["head.centre.weight"].shape == (5, 8)
print(*sorted({{"torch", "polars", "pyarrow"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_reading_gives_what_was_saved(saved: Path) -> None:
    read = artifact.read(saved)
    assert read.digest == artifact.load(saved).digest
    trained = model()
    assert read.weights.keys() == trained.weights.keys()
    for name, array in trained.weights.items():
        assert read.weights[name].tobytes() == array.tobytes(), name
    assert torch.equal(forecast(read), forecast(trained))


def test_the_example_can_be_tried_on_anything_that_forecasts(saved: Path) -> None:
    expected = np.array(json.loads((saved / "example.json").read_text())["expected"])
    seen = []

    def right(tried: artifact.Example) -> np.ndarray:
        seen.append(tried)
        return expected * (1 + 1e-6)

    artifact.check_example(saved.parent, right)
    np.testing.assert_array_equal(seen[0].values, example().values)
    np.testing.assert_array_equal(seen[0].times, example().times)
    with pytest.raises(ArtifactError, match="no longer forecasts"):
        artifact.check_example(saved, lambda _tried: expected * 1.1)


# Damage


def rewritten(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and sign it, as one would who damages on purpose."""
    (folder / name).write_bytes(content)
    resigned(folder, {})


def resigned(folder: Path, changes: Content) -> None:
    """Change keys of model.json and make all digests fit again."""
    content = json.loads((folder / "model.json").read_text()) | changes
    for name in FILES[1:]:
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        content["sha256"][name] = digest
    shape = {name: content[name] for name in ("signature", "spec", "max_gap")}
    shape["files"] = content["sha256"]
    content["digest"] = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()
    (folder / "model.json").write_text(json.dumps(content))


def weights(folder: Path, change: Callable[[Content], None]) -> None:
    tensors = load_tensors((folder / "weights.safetensors").read_bytes())
    change(tensors)
    rewritten(folder, "weights.safetensors", save_tensors(tensors))


def part(folder: Path, name: str, **changes: Any) -> None:
    content = json.loads((folder / "model.json").read_text())[name]
    resigned(folder, {name: {**content, **changes}})


def layer(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "model.json").read_text())["spec"]
    part(folder, "spec", layers=[{**content["layers"][0], **changes}, *content["layers"][1:]])


def file_json(folder: Path, name: str, **changes: Any) -> None:
    content = json.loads((folder / name).read_text()) | changes
    rewritten(folder, name, json.dumps(content).encode())


def plain(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


def grown(tensors: Content) -> None:
    tensors["head.centre.bias"] = torch.zeros(99)


def halved(tensors: Content) -> None:
    tensors["head.centre.bias"] = tensors["head.centre.bias"].half()


def brained(tensors: Content) -> None:
    tensors["head.centre.bias"] = tensors["head.centre.bias"].bfloat16()


def nan_weight(tensors: Content) -> None:
    tensors["head.centre.bias"][0] = float("nan")


def nan_statistic(tensors: Content) -> None:
    tensors["statistics.std"][0] = float("inf")


def other_weights(tensors: Content) -> None:
    tensors["head.centre.bias"] += 100


HUGE_HEADER = struct.pack("<Q", 1 << 62) + b"{}"
LONG_DATA = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
NESTED = b"[" * 100_000

DAMAGE: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "no weights": ("weights", "missing", lambda f: (f / "weights.safetensors").unlink()),
    "no series": ("series.json", "missing", lambda f: (f / "series.json").unlink()),
    "no example": ("example.json", "missing", lambda f: (f / "example.json").unlink()),
    "no model": ("model", "no model.json", lambda f: (f / "model.json").unlink()),
    "empty model": ("model.json", "Expecting value", lambda f: plain(f, "model.json", b"")),
    "list": ("model.json", "names no format", lambda f: plain(f, "model.json", b"[1, 2]")),
    "number": ("model.json", "names no format", lambda f: plain(f, "model.json", b"7")),
    "nested": ("model.json", "recursion", lambda f: plain(f, "model.json", NESTED)),
    "not text": ("model.json", "utf-8", lambda f: plain(f, "model.json", b"\xff\xfe{")),
    "long number": ("model.json", "digits", lambda f: plain(f, "model.json", b"9" * 5000)),
    "newer": ("model", "newer than 1", lambda f: resigned(f, {"format": 2})),
    "format is text": ("model.json", "no format", lambda f: resigned(f, {"format": "1"})),
    "format is true": ("model.json", "no format", lambda f: resigned(f, {"format": True})),
    "format is null": ("model.json", "no format", lambda f: resigned(f, {"format": None})),
    "no metrics": ("model.json", "lacks metrics", lambda f: resigned(f, {"metrics": None})),
    "gap is text": ("model.json", "lacks max_gap", lambda f: resigned(f, {"max_gap": "3"})),
    "huge header": ("weights", "eader", lambda f: rewritten(f, FILES[1], HUGE_HEADER)),
    "huge tensor": (
        "weights",
        "",
        lambda f: rewritten(
            f, FILES[1], struct.pack("<Q", len(LONG_DATA)) + LONG_DATA.encode() + b"1234"
        ),
    ),
    "no tensors": ("weights", "", lambda f: rewritten(f, FILES[1], b"")),
    "other shape": ("weights", "not those of the spec", lambda f: weights(f, grown)),
    "other type": ("weights", "not those of the spec", lambda f: weights(f, halved)),
    "type numpy lacks": ("weights", "", lambda f: weights(f, brained)),
    "lost tensor": (
        "weights",
        "not those",
        lambda f: weights(f, lambda t: t.pop("head.steps.bias")),
    ),
    "lost statistic": (
        "weights",
        "not those",
        lambda f: weights(f, lambda t: t.pop("statistics.mase_scale")),
    ),
    "NaN weight": ("weights", "not finite", lambda f: weights(f, nan_weight)),
    "infinite statistic": ("weights", "not finite", lambda f: weights(f, nan_statistic)),
    "other weights": ("example.json", "no longer forecasts", lambda f: weights(f, other_weights)),
    "unknown layer": ("model.json", "unknown kind 'lost'", lambda f: layer(f, kind="lost")),
    "layer option": (
        "model.json",
        "unknown option 'rooms'",
        lambda f: layer(f, options={"rooms": 3}),
    ),
    "wide layer": ("model.json", "", lambda f: layer(f, options={"hidden": 1 << 45})),
    "large layer": ("weights", "not those", lambda f: layer(f, options={"hidden": 1 << 20})),
    "layers are text": ("model.json", "spec", lambda f: part(f, "spec", layers="lstm")),
    "same name": ("model.json", "two layers", lambda f: layer(f, name="dropout_1")),
    "layer name": ("model.json", "", lambda f: layer(f, name="a.b")),
    "signature": ("model.json", "signature", lambda f: part(f, "signature", colour="red")),
    "frequency": ("model.json", "not a frequency", lambda f: part(f, "signature", frequency="1x")),
    "other horizon": ("model.json", "horizon", lambda f: part(f, "signature", horizon=6)),
    "horizon is text": ("model.json", "horizon", lambda f: part(f, "signature", horizon="5")),
    "more series": ("model.json", "vocabulary", lambda f: file_json(f, FILES[2], series=["a"])),
    "series is null": (
        "series.json",
        "not understood",
        lambda f: file_json(f, FILES[2], series=None),
    ),
    "series is a list": ("series.json", "not understood", lambda f: rewritten(f, FILES[2], b"[]")),
    "example is a list": (
        "example.json",
        "cannot be tried",
        lambda f: rewritten(f, FILES[3], b"[]"),
    ),
    "example is empty": ("example.json", "", lambda f: file_json(f, FILES[3], values=[], times=[])),
    "example is text": ("example.json", "", lambda f: file_json(f, FILES[3], values=[["x", "y"]])),
    "expected is cut": (
        "example.json",
        "no longer",
        lambda f: file_json(f, FILES[3], expected=[1.0]),
    ),
    "expected is empty": ("example.json", "", lambda f: file_json(f, FILES[3], expected=[])),
    "expected is null": ("example.json", "", lambda f: file_json(f, FILES[3], expected=None)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_sentence_that_names_the_file(kind: str, saved: Path) -> None:
    named, reason, damage = DAMAGE[kind]
    damage(saved)
    with pytest.raises(ArtifactError) as caught:
        artifact.load(saved)
    message = caught.value.message
    assert str(saved) in message
    assert named in message
    assert reason in message
    assert "\n" not in message
    assert caught.value.hint


def test_a_cut_anywhere_is_noticed(saved: Path) -> None:
    for name in FILES:
        whole = (saved / name).read_bytes()
        for share in (0, 0.01, 0.5, 0.99):
            plain(saved, name, whole[: int(share * len(whole))])
            with pytest.raises(ArtifactError, match=name):
                artifact.load(saved)
        plain(saved, name, whole)
    artifact.load(saved)


@pytest.mark.parametrize("name", FILES[1:])
@settings(max_examples=30)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(name: str, place: float, bit: int, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if not folder.exists():
        artifact.save(folder, model(), example())
    whole = (folder / name).read_bytes()
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= 1 << bit
    plain(folder, name, bytes(damaged))
    with pytest.raises(ArtifactError, match=name):
        artifact.load(folder)
    plain(folder, name, whole)


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_description_is_noticed_or_changes_no_forecast(
    place: float, bit: int, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    if not folder.exists():
        artifact.save(folder, model(), example())
    expected = artifact.load(folder)
    whole = (folder / "model.json").read_bytes()
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= 1 << bit
    plain(folder, "model.json", bytes(damaged))
    with contextlib.suppress(ArtifactError):
        found = artifact.load(folder)
        for name in ("signature", "spec", "max_gap", "digest"):
            assert getattr(found, name) == getattr(expected, name)
    plain(folder, "model.json", whole)
