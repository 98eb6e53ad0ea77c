"""When waves are recorded as CUDA graphs, shown with graphs that do their work on the CPU."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from live_steps import FEW_SIZES, same_steps, some_batches
from models import model
from networks import MORE_SPECS, SPECS, network

from forecastd.artifact import Artifact
from forecastd.network.model import weights_of
from forecastd.runtime import device_rows, torch_stepper
from forecastd.runtime.device_rows import RowsInPlace
from forecastd.runtime.launching import Graphs
from forecastd.runtime.torch_stepper import TorchStepper
from forecastd.runtime.waves import Mode, Wave

SERIES_MAX = 80
TWO = Mode.STEP, Mode.ADVANCE


class Recorder:
    """Stands for torch.cuda: what is computed while a graph records is done when it is replayed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.recorded: list[tuple[int, Mode]] = []
        self.direct: list[tuple[int, Mode]] = []
        self.failure: Exception | None = None
        self.graph: Graph | None = None
        self.compute = Wave.compute

        def compute(wave: Wave, mode: Mode, count: int) -> None:
            if isinstance(wave.rows, RowsInPlace):  # a stepper to compare with
                self.compute(wave, mode, count)
            elif self.graph is None:
                self.direct.append((wave.size, mode))
                self.compute(wave, mode, count)
            else:
                self.graph.work = lambda: self.compute(wave, mode, count)
                self.recorded.append((wave.size, mode))

        patch.setattr(Wave, "compute", compute)
        self.streams = [Stream()]
        patch.setattr(torch.cuda, "current_stream", lambda: self.streams[-1])
        patch.setattr(torch.cuda, "set_stream", self.streams.append)
        patch.setattr(torch.cuda, "Stream", lambda device: Stream())
        for name in ("device", "stream"):
            patch.setattr(torch.cuda, name, contextlib.nullcontext)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "graph", self.recording)

    @contextlib.contextmanager
    def recording(
        self, graph: Graph, pool: None, stream: Stream, capture_error_mode: str
    ) -> Iterator[None]:
        if self.failure is not None:
            self.streams.append(stream)  # as torch does, which leaves it so
            raise self.failure
        self.graph = graph
        yield
        self.graph = None


class Graph:
    work: Callable[[], None]

    def replay(self) -> None:
        self.work()


class Stream:
    def wait_stream(self, other: Stream) -> None:
        pass


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def graphed(trained: Artifact, told: list[str]) -> TorchStepper:
    """Return a stepper whose waves are recorded."""
    stepper = TorchStepper(trained, SERIES_MAX, placement=FEW_SIZES)
    waves: Any = stepper.waves
    waves._graphs = Graphs(waves._network, waves._rows, told.append)
    return stepper


@pytest.mark.parametrize("name", SPECS)
def test_each_size_and_mode_is_recorded_once_and_replayed(name: str, recorder: Recorder) -> None:
    told: list[str] = []
    stepper = graphed(model(name), told)
    same_steps(stepper, TorchStepper(model(name), SERIES_MAX), some_batches(1))
    assert len(recorder.recorded) == len(set(recorder.recorded)) > 4
    assert Counter(recorder.direct) == {key: 3 for key in recorder.recorded}  # warm-ups
    assert told == []


def test_rows_that_move_are_recorded_anew(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_rows, "FIRST_ROWS", 20)
    stepper = graphed(model(), [])
    same_steps(stepper, TorchStepper(model(), SERIES_MAX), some_batches(1))
    assert 1 < max(Counter(recorder.recorded).values()) <= 3


def test_ahead_of_the_first_step_the_small_ones_are_recorded(recorder: Recorder) -> None:
    graphed(model(), []).waves.record_ahead(10)
    assert recorder.recorded == [(size, mode) for size in (1, 4, 16) for mode in TWO]


def test_what_torch_cannot_record_is_told_once_and_stepped(recorder: Recorder) -> None:
    recorder.failure = torch.AcceleratorError("operation not permitted\nmore about it")
    told: list[str] = []
    stepper = graphed(model(), told)
    same_steps(stepper, TorchStepper(model(), SERIES_MAX), some_batches(2))
    slower = "steps are launched kernel by kernel, which is slower: "
    assert told == [slower + "operation not permitted"]
    assert recorder.recorded == []
    assert recorder.streams[-1] is recorder.streams[0]


def test_another_failure_is_not_swallowed(recorder: Recorder) -> None:
    recorder.failure = torch.OutOfMemoryError("no memory")
    with pytest.raises(torch.OutOfMemoryError):
        graphed(model(), []).waves.record_ahead(1)


def test_a_head_that_waits_is_stepped_and_what_is_silent_recorded(recorder: Recorder) -> None:
    spec, told = MORE_SPECS["student_t"], list[str]()
    trained = replace(model(), spec=spec, weights=weights_of(network(spec, torch.float32)))
    stepper = graphed(trained, told)
    batch = next(some_batches(3))
    stepper.step(batch, forecast=0)
    assert {mode for _, mode in recorder.recorded} == {Mode.ADVANCE}
    stepper.forecast(np.arange(len(stepper.arena)))
    assert {mode for _, mode in recorder.recorded} == {Mode.ADVANCE}
    assert [remark.endswith("a layer or the head waits for numbers") for remark in told] == [True]


def test_products_on_a_gpu_are_those_of_float32() -> None:
    """The names are torch's own; a GPU shows that they matter."""
    torch_stepper._compute_in_float32()
    settings: Any = torch.backends
    for one in (settings.cuda.matmul, settings.cudnn.conv, settings.cudnn.rnn):
        assert one.fp32_precision == "ieee"
