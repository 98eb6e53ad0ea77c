"""Opens a trained model for live series: the one place that chooses what steps it.

On the CPU these are the compiled kernels, which need no torch; torch steps on a GPU, and on the CPU
what the kernels do not know.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd import artifact
from forecastd.artifact import Artifact, Example
from forecastd.compiled import announce_compiling
from forecastd.data.grid import missing_stamps
from forecastd.errors import ArtifactError
from forecastd.network.device import choose_device
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.runtime.beside import Beside
from forecastd.runtime.closed_loop import ROWS_MAX, ClosedLoop, require_bounded, require_closed
from forecastd.runtime.stepper import Stepper
from forecastd.series import Frequency, IntArray, Keys, ObservationBatch

Tell = Callable[[str], None]
"""Takes a remark for whoever starts the model, one line of text."""


class Opened(NamedTuple):
    """A model ready for live series."""

    artifact: Artifact
    stepper: Stepper


class Stepping(NamedTuple):
    """How series are stepped.

    threads, latency: see KernelStepper; torch does without. closed_loop: forecast so many steps
    ahead, see ClosedLoop; None: as many as the model was trained to.
    """

    threads: int | None = None
    latency: bool = False
    closed_loop: int | None = None


ON_ALL_CORES = Stepping()


def open_model(
    path: Path, device: str, series_max: int, tell: Tell, how: Stepping = ON_ALL_CORES
) -> Opened:
    """Return a verified model with a stepper that has a fresh arena.

    device: auto, cpu, cuda or cuda:1. The example of the model is tried on a stepper of its own.
    Raises UserError, ArtifactError also when it forecasts other numbers than when it was saved.
    """
    chosen = choose_device(device)
    trained = artifact.read(path)
    _require_streamable(trained.spec, path)
    make = _maker(trained.spec, chosen, tell, how)
    with Beside() as beside:
        announce_compiling(tell, beside.start)
        artifact.check_example(path, lambda example: _try(make(trained, 1), trained, example))
        stepper = make(trained, series_max)
        beside.wait()
    if how.closed_loop is not None:
        require_closed(trained)
        require_bounded(how.closed_loop)
        stepper = ClosedLoop(stepper, make(trained, ROWS_MAX), how.closed_loop)
    return Opened(trained, stepper)


def _require_streamable(spec: NetworkSpec, path: Path) -> None:
    """Raise ArtifactError, naming the layer, when a network needs what a stream has not yet."""
    if reason := wiring_of(spec).needs_future():
        message = f"{path} cannot follow a stream: {reason}"
        raise ArtifactError(message, hint="`forecast predict` scores files with it")


def _maker(
    spec: NetworkSpec, device: str, tell: Tell, how: Stepping
) -> Callable[[Artifact, int], Stepper]:
    """Return what makes a stepper of an artifact and the number of series at most."""
    if device == "cpu":
        from forecastd.runtime.kernel_stepper import KernelStepper, unsupported

        reason = unsupported(spec)
        if reason is None:
            return partial(KernelStepper, threads=how.threads, latency=how.latency)
        tell(f"{reason}; this model is stepped by torch, which is slower and takes more memory")
    from forecastd.runtime.torch_stepper import TorchStepper

    return partial(TorchStepper, device=device, tell=_once(tell))


def _once(tell: Tell) -> Tell:
    """Return what passes a remark on, but none twice: a model is tried before it is used."""
    told: set[str] = set()

    def first(remark: str) -> None:
        if remark not in told:
            told.add(remark)
            tell(remark)

    return first


def _try(stepper: Stepper, trained: Artifact, example: Example) -> NDArray[np.float64]:
    """Return the forecast [horizon, Q] after the last step of an example.

    An example with holes, which older models have, was answered without filling them: a stepper
    would fill them, so the network of torch answers it again.
    """
    if _has_holes(example.times, trained.signature.frequency):
        return artifact.run_example(trained, example)
    keys = Keys.repeated(example.key, len(example.times))
    result = stepper.step(ObservationBatch(keys, example.times, example.values))
    forecast: NDArray[np.float64] = result.forecasts.values[-1].astype(np.float64)
    return forecast


def _has_holes(times: IntArray, frequency: Frequency) -> bool:
    _, holes = missing_stamps(times[:-1], times[1:], frequency, 0)
    return bool(holes.any())
