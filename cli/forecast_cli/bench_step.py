"""`forecast bench step`: what one observation costs, beside nn.LSTM and the machine's limits."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need them
    from forecast_cli.output import Progress
    from forecastd.artifact import Artifact
    from forecastd.runtime.measuring import Timing, Turn

ROUNDS = 15
STEP, AHEAD = "step", "ahead"
_WHOLE = "whole "
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Setting:
    """What is measured. device: cpu, cuda or cuda:1."""

    artifact: Artifact
    batch: int
    device: str
    rounds: int


@dataclass(frozen=True)
class Row:
    """One model and batch size; docs/reference/performance.md has the meaning of each column."""

    hidden: int
    layers: int
    batch: int
    device: str
    mode: str
    us_per_observation: float
    observations_per_s: float
    whole_us_per_observation: float
    p50_us: float | None
    p99_us: float | None
    p999_us: float | None
    nn_lstm_us_per_observation: float
    ratio_nn_lstm: float
    onnx_us_per_observation: float | None
    limit_us_per_observation: float
    share_of_limit: float
    matmul_gflops: float
    copy_gb_per_s: float


def step(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of a trained model; without, untrained ones are made."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    hidden: Annotated[str, typer.Option(help="Units of the untrained models.")] = "64,128,256",
    layers: Annotated[str, typer.Option(help="Layers of the untrained models.")] = "1,2",
    batch: Annotated[str, typer.Option(help="Series that are stepped at once.")] = "1,16,256,4096",
    rounds: Annotated[
        int, typer.Option(min=1, help="How often all that is compared takes turns.")
    ] = ROUNDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time one step by batch size on one core, beside torch.nn.LSTM and the matmul rate."""
    from forecast_cli.output import print_json, progress

    sizes = numbers(batch, "--batch")
    shapes = [(h, n) for h in numbers(hidden, "--hidden") for n in numbers(layers, "--layers")]
    with on_one_core():
        artifacts = _artifacts(model, shapes)
        with progress("measuring", len(artifacts) * len(sizes)) as bar:
            rows = measure(artifacts, sizes, device, rounds, bar)
    if as_json:
        print_json(rows)
    else:
        _print(rows)


def numbers(text: str, option: str) -> list[int]:
    """Return the whole numbers, 1 or more, of a list with commas. Raises UserError."""
    from forecastd.errors import UserError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        message = f"{option} {text!r} is not a list of whole numbers from 1 on"
        raise UserError(message, hint="write them with commas: 1,16,256")
    return [int(part) for part in parts]


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Keep this process on one core; libraries imported in the block start no more threads."""
    before = os.sched_getaffinity(0)
    variables = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        for name, value in variables.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measure(
    artifacts: list[Artifact], batches: list[int], device: str, rounds: int, bar: Progress
) -> list[Row]:
    """Return the rows of all models and batch sizes.

    Raises UserError when the device is not there or a batch is too large.
    """
    from forecastd.network.device import choose_device
    from forecastd.runtime.measuring import copy_gb_per_s

    chosen = choose_device(device)
    copied = copy_gb_per_s()
    rows = []
    for artifact in artifacts:
        for batch in batches:
            rows += _measure_one(Setting(artifact, batch, chosen, rounds), copied)
            bar.advance()
    return rows


def _artifacts(model: Path | None, shapes: list[tuple[int, int]]) -> list[Artifact]:
    from forecastd import artifact
    from forecastd.runtime.measuring import untrained

    if model is not None:
        return [artifact.read(model)]
    return [untrained(hidden, layers) for hidden, layers in shapes]


def _measure_one(setting: Setting, copied: float) -> list[Row]:
    from forecastd.runtime.measuring import (
        SINGLE_CALLS_MIN,
        KernelTurns,
        take_turns,
        wave_turn,
    )

    artifact, batch = setting.artifact, setting.batch
    single = SINGLE_CALLS_MIN if batch == 1 else 0
    modes = (STEP, AHEAD) if batch == 1 else (STEP,)
    if _has_kernels(setting):
        live = {m: KernelTurns(artifact, batch, latency=m == AHEAD) for m in modes}
        turns = {mode: each.turn(single) for mode, each in live.items()}
        timings = take_turns(
            turns | _references(setting) | _whole(setting, modes, 0), setting.rounds
        )
        for each in live.values():
            each.require_used()
    else:
        modes = (STEP,)
        turns = _whole(setting, modes, single) | _references(setting)
        wave = wave_turn(artifact, batch, setting.device, single)
        if wave is not None:
            turns[STEP] = wave
        clock = time.thread_time_ns if setting.device == "cpu" else time.perf_counter_ns
        timings = take_turns(turns, setting.rounds, clock)
        timings.setdefault(STEP, timings[_WHOLE + STEP])
    return [_row(setting, mode, timings, copied) for mode in modes]


def _has_kernels(setting: Setting) -> bool:
    from forecastd.runtime.kernel_stepper import unsupported

    return setting.device == "cpu" and unsupported(setting.artifact.spec) is None


def _whole(setting: Setting, modes: tuple[str, ...], calls_min: int) -> dict[str, Turn]:
    """Return the whole step of the stepper that a live stream would have."""
    from forecastd.runtime.measuring import Feed, whole_turn
    from forecastd.runtime.stepper import Stepper

    artifact, batch = setting.artifact, setting.batch

    def stepper(mode: str) -> Stepper:
        if _has_kernels(setting):
            from forecastd.runtime.kernel_stepper import KernelStepper

            return KernelStepper(artifact, batch, threads=1, latency=mode == AHEAD)
        from forecastd.runtime.torch_stepper import TorchStepper

        return TorchStepper(artifact, batch, setting.device)

    return {
        _WHOLE + mode: whole_turn(stepper(mode), Feed(artifact, batch), calls_min) for mode in modes
    }


def _references(setting: Setting) -> dict[str, Turn]:
    """Return what a step is compared with."""
    from forecastd.runtime import rivals
    from forecastd.runtime.measuring import lstm_shapes, matmul_turn

    batch, device = setting.batch, setting.device
    shapes = lstm_shapes(setting.artifact)
    lstm = {"nn.LSTM": rivals.torch_turn(shapes, batch, device)}
    if device != "cpu":
        return {"matmul": rivals.torch_matmul_turn(shapes, device), **lstm}
    onnx = rivals.onnx_turn(shapes, batch)
    turns = {"matmul": matmul_turn(shapes), **lstm}
    return turns if onnx is None else {**turns, "onnx": onnx}


def _row(setting: Setting, mode: str, timings: dict[str, Timing], copied: float) -> Row:
    from forecastd.runtime.measuring import (
        lstm_shapes,
        matmul_operations,
        multiply_adds,
        multiply_adds_ahead,
    )

    artifact, batch = setting.artifact, setting.batch
    shapes, ours, product = lstm_shapes(artifact), timings[mode], timings["matmul"]
    adds = multiply_adds(artifact) - (multiply_adds_ahead(artifact) if mode == AHEAD else 0)
    share_of_product = 2 * adds * batch / matmul_operations(shapes)
    theirs, onnx = timings["nn.LSTM"], timings.get("onnx")
    p50, p99, p999 = (
        round(ours.percentile_us(share), 3) if batch == 1 else None for share in (50, 99, 99.9)
    )
    return Row(
        hidden=shapes[-1].hidden,
        layers=len(shapes),
        batch=batch,
        device=setting.device,
        mode=mode,
        us_per_observation=round(ours.us / batch, 4),
        observations_per_s=round(1e6 * batch / ours.us),
        whole_us_per_observation=round(timings[_WHOLE + mode].us / batch, 4),
        p50_us=p50,
        p99_us=p99,
        p999_us=p999,
        nn_lstm_us_per_observation=round(theirs.us / batch, 4),
        ratio_nn_lstm=round(ours.ratio_to(theirs), 5),
        onnx_us_per_observation=None if onnx is None else round(onnx.us / batch, 4),
        limit_us_per_observation=round(share_of_product * product.us / batch, 4),
        share_of_limit=round(share_of_product / ours.ratio_to(product), 4),
        matmul_gflops=round(matmul_operations(shapes) / product.us / 1e3, 1),
        copy_gb_per_s=round(copied, 1),
    )


def _print(rows: list[Row]) -> None:
    from forecast_cli.output import note, print_table

    columns = ["model", "batch", "us", "per s", "whole", "p99", "p99.9", "nn.LSTM", "times"]
    has_onnx = any(row.onnx_us_per_observation is not None for row in rows)
    print_table(
        [*columns, *(["ONNX"] if has_onnx else []), "limit %"],
        [
            (
                f"{row.hidden}x{row.layers}",
                f"{row.batch} {AHEAD}" if row.mode == AHEAD else str(row.batch),
                _short(row.us_per_observation),
                row.observations_per_s,
                _short(row.whole_us_per_observation),
                _short(row.p99_us),
                _short(row.p999_us),
                _short(row.nn_lstm_us_per_observation),
                _short(1 / row.ratio_nn_lstm),
                *([_short(row.onnx_us_per_observation)] if has_onnx else []),
                round(100 * row.share_of_limit),
            )
            for row in rows
        ],
    )
    last = rows[-1]
    note(
        "Microseconds per observation, on one core: the step alone, called from Python; whole: "
        "with keys and columns; p99, p99.9: of single steps; ahead: what needs no observation is "
        "made before it arrives. times: how often quicker than torch.nn.LSTM. limit %: what its "
        f"multiply-adds take at the rate of a matrix product here ({last.matmul_gflops:.0f} "
        "GFLOP/s for the last model), as a share of the step. Memory copies "
        f"{last.copy_gb_per_s:.0f} GB/s."
    )
    if not has_onnx:
        note("ONNX Runtime is not installed or not compared on this device")


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
