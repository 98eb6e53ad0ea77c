"""How waves are launched: kernel by kernel, or on a GPU as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from forecastd.network.model import ForecastNetwork
from forecastd.runtime.device_rows import Rows
from forecastd.runtime.waves import Mode, Observed, Shape, Stage, Wave, pieces, recordable
from forecastd.series import FloatArray

RECORDED_AHEAD_MAX = 64
"""Waves up to this size are recorded when a model is loaded, larger ones at their first use."""

_WARM_UPS = 3
"""Runs before the recording: libraries choose their ways and take their memory in the first."""


class Waves:
    """Takes series of any number through waves of fixed sizes; each is made at its first use.

    sizes: rising. tell: takes a remark about what is slower than it could be.
    """

    def __init__(
        self,
        network: ForecastNetwork,
        rows: Rows,
        shape: Shape,
        sizes: Sequence[int],
        tell: Callable[[str], None],
    ) -> None:
        self.sizes = sizes
        self._network, self._rows, self._shape = network, rows, shape
        self._made: dict[int, tuple[Wave, Stage]] = {}
        on_gpu = rows.words.device.type == "cuda"
        self._graphs = Graphs(network, rows, tell) if on_gpu else None

    def record_ahead(self, series_max: int) -> None:
        """Record what a few of so many series need, so that no first step of them is slow."""
        enough = next((size for size in self.sizes if size >= series_max), self.sizes[-1])
        for size in self.sizes:
            if self._graphs is not None and size <= min(enough, RECORDED_AHEAD_MAX):
                for mode in (Mode.STEP, Mode.ADVANCE):
                    self._ready(size, mode)

    def run(self, mode: Mode, observed: Observed) -> FloatArray:
        """Do what `mode` says with series, each at most once; return their numbers [n, ...].

        Where the mode gives no forecast they have no meaning.
        """
        self._rows.settle()
        numbers = np.empty((len(observed.slots), *self._shape.numbers), np.float32)
        for some, size in pieces(len(observed.slots), self.sizes):
            found = self.staged(mode, size, observed.part(some))()
            if mode is not Mode.ADVANCE:
                numbers[some] = found
        if mode is not Mode.FORECAST:
            self._rows.stepped(observed.slots)
        return numbers

    def staged(self, mode: Mode, size: int, observed: Observed) -> Callable[[], FloatArray]:
        """Stage at most `size` series; return what runs the wave and returns their numbers.

        What it returns is a view that the next wave of this size overwrites; empty where the mode
        gives no forecast.
        """
        (wave, stage), graphs = self._ready(size, mode), self._graphs
        stage.fill(observed)
        count = len(observed.slots)

        def run() -> FloatArray:
            stage.send()
            if graphs is None:
                wave.compute(mode, count)
            else:
                graphs.launch(wave, mode)
            return stage.receive(0 if mode is Mode.ADVANCE else count)

        return run

    def _ready(self, size: int, mode: Mode) -> tuple[Wave, Stage]:
        """Return a wave whose work is recorded where it can be, tried on the scratch row."""
        if size not in self._made:
            wave = Wave(self._network, self._rows, size, self._shape)
            self._made[size] = wave, Stage(wave, self._shape)
        wave, stage = self._made[size]
        if self._graphs is not None and not self._graphs.knows(wave, mode):
            stage.clear()
            stage.send()
            self._graphs.record(wave, mode)
            stage.receive(0)
        return wave, stage


class Graphs:
    """The work of waves on a GPU, recorded by size and mode.

    What cannot be recorded is launched kernel by kernel. Graphs share their memory: one runs at a
    time, and what it leaves there is used by none. When rows move all graphs are forgotten.
    """

    def __init__(self, network: ForecastNetwork, rows: Rows, tell: Callable[[str], None]) -> None:
        self._network, self._rows, self._tell = network, rows, tell
        self._moves = rows.moves
        self._told = self._failed = False
        self._recorded: dict[tuple[int, Mode], torch.cuda.CUDAGraph | None] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._aside = torch.cuda.Stream(rows.words.device)  # type: ignore[no-untyped-call]

    def knows(self, wave: Wave, mode: Mode) -> bool:
        """Tell whether a wave need not be recorded any more."""
        if self._rows.moves != self._moves:
            self._recorded.clear()
            self._moves = self._rows.moves
        return (wave.size, mode) in self._recorded

    def launch(self, wave: Wave, mode: Mode) -> None:
        """Start a wave's work, which is known."""
        graph = self._recorded[wave.size, mode]
        if graph is None:
            wave.compute(mode, wave.size)
        else:
            graph.replay()

    def record(self, wave: Wave, mode: Mode) -> None:
        """Record a wave's work, after doing it a few times with what has entered."""
        graph = None
        if not recordable(self._network, mode):
            self._tell_of("a layer or the head waits for numbers")
        elif not self._failed:
            with torch.cuda.device(self._rows.words.device):
                graph = self._recording(wave, mode)
        self._recorded[wave.size, mode] = graph

    def _recording(self, wave: Wave, mode: Mode) -> torch.cuda.CUDAGraph | None:
        here, aside = torch.cuda.current_stream(), self._aside
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                wave.compute(mode, wave.size)
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self._pool, aside, capture_error_mode="thread_local"):
                wave.compute(mode, wave.size)
        except torch.AcceleratorError as error:
            torch.cuda.set_stream(here)  # torch leaves the recording one when a recording fails
            self._failed = True
            self._tell_of(str(error).partition("\n")[0])
            return None
        return graph

    def _tell_of(self, reason: str) -> None:
        if not self._told:
            self._told = True
            self._tell(f"steps are launched kernel by kernel, which is slower: {reason}")
