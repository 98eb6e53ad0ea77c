from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import model
from typer.testing import CliRunner, Result

from forecast_cli import bench_step
from forecast_cli.bench_traffic import Traffic, watch, write
from forecast_cli.main import app
from forecastd import artifact
from forecastd.artifact import Artifact, Example
from forecastd.connectors.codec_arrow import ArrowDecoder
from forecastd.connectors.codec_ndjson import Decoder
from forecastd.connectors.contract import FrameBatch, LineBatch
from forecastd.connectors.frames import FrameSplitter
from forecastd.connectors.lines import LineSplitter
from forecastd.errors import BugError, PeerError, UserError
from forecastd.features.vocabulary import Vocabulary
from forecastd.runtime import measuring
from forecastd.runtime.measuring import (
    Feed,
    KernelTurns,
    LstmShape,
    Turn,
    lstm_shapes,
    multiply_adds,
    multiply_adds_ahead,
    take_turns,
    untrained,
    wave_turn,
)
from forecastd.runtime.rivals import onnx_lstm, random_weights
from forecastd.runtime.torch_stepper import BLOCK_ROWS, TorchStepper
from forecastd.series import Frequency, ObservationBatch

STEP_COLUMNS = {
    "hidden", "layers", "batch", "device", "us_per_observation", "observations_per_s",
    "ratio_nn_lstm", "share_of_limit", "p50_us", "p99_us", "p999_us", "matmul_gflops",
    "copy_gb_per_s", "onnx_us_per_observation",
}  # fmt: skip
STREAM_COLUMNS = {
    "hidden", "format", "series", "observations_per_s", "threads", "peak_rss_mb",
    "first_forecast_s", "forecasts",
}  # fmt: skip

HELP_SCRIPT = """
import sys
sys.argv = ["forecast", "bench", *sys.argv[1:], "--help"]
from forecast_cli.main import run
try:
    run()
finally:
    print(*sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments)])


def rows_of(*arguments: object) -> list[dict[str, Any]]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("words", [(), ("step",), ("stream",)], ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_SCRIPT, *words], capture_output=True, text=True, check=True
    )
    assert not {"torch", "numpy", "numba", "pyarrow", "polars"} & set(done.stderr.split())


def test_step_has_a_row_for_each_model_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measuring.SINGLE_CALLS_MIN == 20_000, "as the docs say"
    monkeypatch.setattr(measuring, "SINGLE_CALLS_MIN", 200)
    allowed = os.sched_getaffinity(0)
    rows = rows_of(
        "step", "--hidden", "8,16", "--layers", "1,2", "--batch", "1,4", "--rounds", 1,
        "--device", "cpu",
    )  # fmt: skip
    assert os.sched_getaffinity(0) == allowed
    shown = [(row["hidden"], row["layers"], row["batch"], row["mode"]) for row in rows]
    assert shown == [
        (hidden, layers, batch, mode)
        for hidden in (8, 16)
        for layers in (1, 2)
        for batch, mode in ((1, "step"), (1, "ahead"), (4, "step"))
    ]
    for row in rows:
        assert row.keys() >= STEP_COLUMNS
        ours, single = row["us_per_observation"], row["batch"] == 1
        assert ours > 0
        assert row["ratio_nn_lstm"] == pytest.approx(
            ours / row["nn_lstm_us_per_observation"], rel=0.02
        )
        assert row["share_of_limit"] == pytest.approx(
            row["limit_us_per_observation"] / ours, rel=0.02, abs=1e-3
        )
        assert [row[name] is not None for name in ("p50_us", "p99_us", "p999_us")] == [single] * 3
        assert not single or row["p50_us"] <= row["p99_us"] <= row["p999_us"]


def test_step_measures_a_trained_model(project: Path) -> None:
    folder = project / "tests" / "golden" / "model_format_1"
    rows = rows_of("step", folder, "--batch", 3, "--rounds", 1, "--device", "cpu")
    sizes = [layer.options for layer in artifact.read(folder).spec.layers if layer.kind == "lstm"]
    assert [(row["hidden"], row["layers"]) for row in rows] == [(sizes[-1]["hidden"], len(sizes))]
    shown = call("step", folder, "--batch", 3, "--rounds", 1, "--device", "cpu")
    assert shown.stdout.splitlines()[0].split()[:3] == ["model", "batch", "us"]
    assert max(len(line) for line in shown.stdout.splitlines()) < 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("step", "--batch", "1,x"), "--batch '1,x'"),
        (("step", "--hidden", "0"), "--hidden '0'"),
        (("step", "--hidden", 4, "--layers", 1, "--batch", 5000), "at most 4096"),
        (("step", "nowhere"), "is not a model"),
        (("stream", "nowhere"), "is not a model"),
        (("stream", "--format", "csv"), "'csv' is not a format"),
        (("stream", "--quantiles", "0.9,0.5"), "rising"),
        (("stream", "--quantiles", "0.1,0.9"), "contain 0.5"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(arguments: tuple[object, ...], words: str) -> None:
    result = call(*arguments)
    assert isinstance(result.exception, UserError), result.exception
    assert words in str(result.exception)


def test_the_untrained_model_is_that_of_the_stated_bounds() -> None:
    made = untrained(64, 2)
    assert lstm_shapes(made) == [LstmShape(8, 64), LstmShape(64, 64)]
    assert multiply_adds(made) == 4 * 64 * (8 + 64) + 4 * 64 * 128 + 64
    assert multiply_adds(made) - multiply_adds_ahead(made) == 4 * 64 * (8 + 64) + 64


def test_a_model_without_an_lstm_layer_is_not_compared() -> None:
    made = untrained(4, 1)
    with pytest.raises(UserError, match="no LSTM layer"):
        lstm_shapes(replace(made, spec=replace(made.spec, layers=())))


def test_without_kernels_a_wave_is_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; here the torch stepper is chosen on the CPU."""
    monkeypatch.setattr(bench_step, "_has_kernels", lambda setting: False)
    one, many = rows_of(
        "step", "--hidden", 4, "--layers", 1, "--batch", "8,70", "--rounds", 1, "--device", "cpu"
    )
    assert [(row["mode"], row["batch"]) for row in (one, many)] == [("step", 8), ("step", 70)]
    assert 0 < one["us_per_observation"] < one["whole_us_per_observation"]
    assert many["us_per_observation"] == many["whole_us_per_observation"] > 0


def test_a_wave_that_is_timed_steps_all_series_once() -> None:
    made = untrained(4, 1)
    turn, stepper, feed = wave_turn(made, 8, "cpu"), TorchStepper(made, 8), Feed(made, 8)
    assert turn is not None
    assert turn.before is not None
    stepper.step(feed.batch())
    for _ in range(3):
        turn.before()
        found = turn.call()
        feed.advance()
        np.testing.assert_array_equal(found, stepper.step(feed.batch()).forecasts.values)
    assert wave_turn(untrained(4, 1), BLOCK_ROWS + 1, "cpu") is None


def test_all_take_turns_in_every_round() -> None:
    seen: list[str] = []
    before: list[str] = []
    turns = {
        "one": Turn(lambda: seen.append("one"), lambda: before.append("one"), calls_min=10_000),
        "two": Turn(lambda: seen.append("two")),
    }
    timings = take_turns(turns, 3)
    changes = [name for place, name in enumerate(seen) if place == 0 or seen[place - 1] != name]
    assert changes == ["one", "two"] * 4  # the warm-up, then three rounds
    assert len(before) == seen.count("one") > len(timings["one"].calls_ns) >= 10_000
    assert timings["one"].percentile_us(50) <= timings["one"].percentile_us(99)


def test_observations_that_are_refused_are_not_a_figure() -> None:
    turns = KernelTurns(untrained(4, 1), 2)
    turn = turns.turn(0)
    assert turn.before is not None
    turn.before()
    turn.call()
    turns.require_used()
    turn.call()  # the same times again
    with pytest.raises(BugError, match="refused"):
        turns.require_used()


@pytest.mark.parametrize("order", ["round", "random"])
def test_every_series_goes_on_where_it_was(order: str) -> None:
    traffic = Traffic(7, 500, order)
    series, steps = traffic.rows()
    assert len(series) == traffic.total == 507
    assert sorted(series[:7]) == list(range(7))
    for number in range(7):
        own = steps[series == number]
        assert own.tolist() == list(range(len(own)))
    in_turn = (np.arange(507) % 7 == series).all()
    assert in_turn == (order == "round")


def decoded(path: Path, made: Artifact, form: str) -> ObservationBatch:
    """Return the observations in a file; there must be nothing that cannot be used."""
    if form == "arrow":
        frames = FrameSplitter(1 << 26)
        frames.feed(path.read_bytes())
        found = ArrowDecoder(made.signature).decode(FrameBatch("in", frames.take(10_000).pieces))
    else:
        splitter = LineSplitter(65536)
        splitter.feed(path.read_bytes())
        found = Decoder(made.signature).decode(LineBatch("in", splitter.take(10_000).lines))
    assert found.rejects == []
    return found.batch


@pytest.mark.parametrize("frequency", ["1h", "1mo", "5"])
@pytest.mark.parametrize("zone", [False, True])
def test_both_formats_hold_the_same_observations(
    frequency: str, zone: bool, tmp_path: Path
) -> None:
    made = model()
    signature = replace(
        made.signature, static=("region",), frequency=Frequency.parse(frequency), time_zone=zone
    )
    made = replace(
        made, signature=signature, vocabulary=Vocabulary((), {"region": ("north", "s")}, {})
    )
    batches = []
    for form in ("ndjson", "arrow"):
        write(tmp_path / form, made, Traffic(5, 5000, "random"), form)
        batches.append(decoded(tmp_path / form, made, form))
    lines, frames = batches
    assert len(lines) == 5005
    assert lines.keys == frames.keys
    np.testing.assert_array_equal(lines.times, frames.times)
    np.testing.assert_array_equal(lines.values, frames.values)
    assert lines.static == frames.static == {"region": ["north"] * 5005}
    series, _ = Traffic(5, 5000, "random").rows()
    assert lines.keys.tolist() == [f"series-{number}" for number in series]
    of_one = lines.times[series == 3]
    assert (signature.frequency.steps_between(of_one[:-1], of_one[1:]) == 1).all()


def test_a_model_that_cannot_be_fed_says_why(tmp_path: Path) -> None:
    made = model()
    frames = replace(made, signature=replace(made.signature, frames={"x": [2, 3]}))
    with pytest.raises(UserError, match="frames, 'x'"):
        write(tmp_path / "in", frames, Traffic(1, 1, "round"), "ndjson")
    single = replace(made, signature=replace(made.signature, id=None))
    with pytest.raises(UserError, match="--series 1"):
        write(tmp_path / "in", single, Traffic(2, 1, "round"), "ndjson")
    write(tmp_path / "in", single, Traffic(1, 9, "round"), "ndjson")
    assert len(decoded(tmp_path / "in", single, "ndjson")) == 10


@pytest.mark.process
def test_stream_answers_every_observation_in_both_formats() -> None:
    allowed = os.sched_getaffinity(0)
    rows = rows_of(
        "stream", "--series", 50, "--observations", 20_000, "--hidden", 8, "--horizon", 3,
        "--quantiles", "0.1,0.5,0.9", "--order", "random", "--device", "cpu",
    )  # fmt: skip
    assert os.sched_getaffinity(0) == allowed
    assert [row["format"] for row in rows] == ["ndjson", "arrow"]
    for row in rows:
        assert row.keys() >= STREAM_COLUMNS
        assert (row["series"], row["threads"], row["hidden"]) == (50, 1, 8)
        assert (row["horizon"], row["quantiles"], row["forecasts"]) == (3, 3, 20_050)
        assert row["observations_per_s"] > 0
        assert row["first_forecast_s"] > 0
        assert row["peak_rss_mb"] > 10


@pytest.mark.process
def test_stream_of_a_saved_model_is_a_table(tmp_path: Path) -> None:
    values = np.ones((3, 2), np.float32)
    saved = untrained(4, 2)
    artifact.save(tmp_path / "model", saved, Example("a", np.arange(3) * 3_600_000_000, values))
    result = call(
        "stream", tmp_path / "model", "--series", 2, "--observations", 10, "--format", "ndjson",
        "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    head, row = result.stdout.splitlines()
    assert head.split()[0] == "model"
    assert row.split()[:4] == ["4x2", "1x1", "ndjson", "2"]


@pytest.mark.process
def test_a_stream_that_fails_tells_why(tmp_path: Path) -> None:
    write(tmp_path / "in", untrained(4, 1), Traffic(1, 1, "round"), "ndjson")
    allowed = os.sched_getaffinity(0)
    with pytest.raises(PeerError, match=r"ended with 2: .*is not a model"):
        watch([str(tmp_path)], tmp_path / "in", "ndjson", 1, 1)
    with pytest.raises(UserError, match="more than the"):
        watch([str(tmp_path)], tmp_path / "in", "ndjson", 1, len(allowed) + 1)
    assert os.sched_getaffinity(0) == allowed


def test_the_onnx_model_is_a_valid_one() -> None:
    """By the checker that torch brings; onnxruntime itself is tried where it is installed."""
    check = torch._C._check_onnx_proto
    shapes = [LstmShape(8, 6), LstmShape(6, 5)]
    found, feeds = onnx_lstm(shapes, random_weights(shapes), 3)
    check(found)
    with pytest.raises(RuntimeError):
        check(found.replace(b"hidden_size", b"hidden_sise"))
    assert {name: array.shape for name, array in feeds.items()} == {
        "x": (1, 3, 8), "h1": (1, 3, 6), "c1": (1, 3, 6), "h2": (1, 3, 5), "c2": (1, 3, 5),
    }  # fmt: skip


def test_the_onnx_model_computes_what_torch_does() -> None:
    runtime = pytest.importorskip("onnxruntime")
    shapes = [LstmShape(8, 6), LstmShape(6, 5)]
    weights = random_weights(shapes)
    found, feeds = onnx_lstm(shapes, weights, 3)
    names = ["y1", "y2"]
    answered = runtime.InferenceSession(found, providers=["CPUExecutionProvider"]).run(names, feeds)
    out = torch.from_numpy(feeds["x"])
    for shape, (by_input, recurrent, bias), answer in zip(shapes, weights, answered, strict=True):
        lstm = torch.nn.LSTM(*shape)
        content = {
            "weight_ih_l0": by_input, "weight_hh_l0": recurrent,
            "bias_ih_l0": bias, "bias_hh_l0": np.zeros_like(bias),
        }  # fmt: skip
        lstm.load_state_dict({name: torch.from_numpy(array) for name, array in content.items()})
        with torch.inference_mode():
            out, _ = lstm(out)
        np.testing.assert_allclose(answer[:, 0], out.numpy(), atol=1e-6)
