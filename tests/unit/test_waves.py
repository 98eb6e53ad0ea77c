"""Waves: what a GPU may record, shown without one; and that their sizes change no forecast."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_examples import EXAMPLES, Example
from live_steps import FEW_SIZES, same_steps, some_batches
from models import HOUR_US, START_US, model
from networks import MORE_SPECS, SPECS, SUPERVISED_SPECS, network
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import Shape as LayerShape
from forecastd.network.model import flatten
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import wire
from forecastd.runtime.arena import Arena, blank_row, row_layout
from forecastd.runtime.device_rows import ResidentRows
from forecastd.runtime.evicted import Evicted
from forecastd.runtime.kernel_stepper import KernelStepper
from forecastd.runtime.stepper import CODES
from forecastd.runtime.torch_stepper import IN_ARENA, TorchStepper
from forecastd.runtime.waves import PADDED_MAX, Mode, Shape, Wave, pieces, recordable
from forecastd.series import Keys, ObservationBatch

ALL_SPECS = SPECS | MORE_SPECS | SUPERVISED_SPECS
NOWHERE = torch.device("meta")
"""Tensors without numbers: who asks for one, or brings one from elsewhere, is found out."""

FROM_THE_HOST = (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor)
TO_THE_HOST = (torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.item, torch.Tensor.tolist)


class HostAskedError(Exception):
    """The host or another device was asked in what is to be recorded."""


class NothingFromTheHost(TorchFunctionMode):
    """Refuses numbers of the host where a GPU records: they would have to be copied."""

    def __torch_function__(
        self, call: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if call in FROM_THE_HOST or call in TO_THE_HOST:
            raise HostAskedError(str(call))
        return call(*args, **(kwargs or {}))


class OneDevice(TorchDispatchMode):
    """Refuses operations that see another device, or whose result the host has to know."""

    def __torch_dispatch__(
        self, call: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            found = call(*args, **(kwargs or {}))
        except RuntimeError as error:
            raise HostAskedError(str(call)) from error
        for each in tree_leaves((args, kwargs, found)):
            if isinstance(each, torch.Tensor) and each.device != NOWHERE:
                raise HostAskedError(str(call), str(each.device))
        return found


def wave_of(name: str, size: int) -> Wave:
    """Return a wave of a network as on a GPU, but nowhere."""
    spec = ALL_SPECS[name]
    made = network(spec, torch.float32)
    flat = flatten(made.initial_state(1), list(made.layers))
    fields = {key: (t.numpy().dtype, tuple(t.shape[1:])) for key, t in flat.items()}
    fields[CODES] = (np.dtype(np.int64), (1,))
    layout = row_layout(fields)
    rows = ResidentRows(Arena(layout, 9, blank_row(layout)), NOWHERE)
    numbers = spec.head.horizon, spec.head.outputs or max(1, len(spec.head.quantiles))
    return Wave(made.to(NOWHERE), rows, size, Shape(2, 2, numbers))


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", ALL_SPECS)
def test_what_is_recordable_asks_nobody(name: str, mode: Mode) -> None:
    wave = wave_of(name, 4)
    known = recordable(network(ALL_SPECS[name], torch.float32), mode)
    with NothingFromTheHost(), OneDevice():
        if known:
            wave.compute(mode, 4)
        else:
            with pytest.raises(HostAskedError):
                wave.compute(mode, 4)


def test_a_copy_from_the_host_is_found_out() -> None:
    with NothingFromTheHost(), OneDevice():
        for asks in (
            lambda: torch.tensor([1.0], device=NOWHERE),
            lambda: torch.zeros(3, device=NOWHERE)[torch.zeros(3, device=NOWHERE) > 0],
            lambda: bool(torch.zeros(3, device=NOWHERE).any()),
            lambda: torch.arange(3),
        ):
            with pytest.raises(HostAskedError):
                asks()


def graph_of(kind: str, example: Example) -> LayerGraph:
    alone = LayerSpec("only", kind, example.options)
    return LayerGraph(wire(example.layers or (alone,), LayerShape(example.sizes))).eval()


STREAMED = {
    f"{kind}-{number}": (kind, example)
    for kind, some in EXAMPLES.items()
    for number, example in enumerate(some)
    if graph_of(kind, example).wiring.needs_future() is None
}


@pytest.mark.parametrize("case", STREAMED.values(), ids=STREAMED)
def test_every_layer_that_is_stepped_asks_nobody(case: tuple[str, Example]) -> None:
    graph = graph_of(*case).to(NOWHERE)
    states = graph.initial_state(3)
    entering = torch.zeros((3, *case[1].sizes), device=NOWHERE)
    with torch.inference_mode(), NothingFromTheHost(), OneDevice():
        if any(graph.layer(name).asks_host for name in graph):
            with pytest.raises(HostAskedError):
                graph.step(entering, states)
        else:
            graph.step(entering, states)
            graph.recall(states)


sizes = st.lists(st.sampled_from([64, 256, 1024, 4096, 16_384]), min_size=1)


@given(st.integers(0, 30_000), sizes.map(lambda some: sorted(set(some))))
def test_pieces_are_all_rows_in_order_and_not_much_more(count: int, some: list[int]) -> None:
    made = list(pieces(count, some))
    ends = [0, *(part.stop for part, _ in made)]
    assert [part.start for part, _ in made] == ends[:-1]
    assert ends[-1] == count
    for (begin, end), (_, size) in zip(itertools.pairwise(ends), made, strict=True):
        rows = end - begin
        assert size in some
        assert 0 < rows <= size
        assert size <= max(PADDED_MAX, 2 * rows) or size == some[0]


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_waves_of_many_sizes_forecast_as_those_of_one(name: str, seed: int) -> None:
    resident = TorchStepper(model(name), 80, placement=FEW_SIZES)
    same_steps(resident, TorchStepper(model(name), 80), some_batches(seed))


@pytest.mark.parametrize("name", ["lstm_quantile", "two_layers"])
def test_states_move_between_kernels_and_the_device_both_ways(name: str) -> None:
    parts = list(some_batches(3))
    kernels = KernelStepper(model(name), 80)
    resident = TorchStepper(model(name), 80, placement=FEW_SIZES)
    for batch in parts[:2]:
        kernels.step(batch)
    resident.arena.restore(kernels.arena.view())
    same_steps(resident, kernels, iter(parts[2:4]))
    kernels.arena.restore(resident.arena.view())
    same_steps(kernels, resident, iter(parts[4:]))


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_evicted_series_come_back_to_the_device(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    small, large = TorchStepper(model(), 3, placement=FEW_SIZES), TorchStepper(model(), 9)
    folder = tmp_path_factory.mktemp("evicted")
    small.arena.evicted = Evicted(folder, small.arena.layout.itemsize)
    dice = np.random.default_rng(seed)
    for hour in range(20):
        keys = dice.choice(list("abcdefghi"), int(dice.integers(1, 4)), replace=False).tolist()
        values = dice.normal(size=(len(keys), 2)).astype(np.float32)
        times = np.full(len(keys), START_US + hour * HOUR_US)
        batch = ObservationBatch(Keys.of(keys), times, values)
        found, expected = small.step(batch), large.step(batch)
        assert found[1:4] == expected[1:4]
        np.testing.assert_allclose(
            found.forecasts.values, expected.forecasts.values, rtol=1e-5, atol=1e-5
        )
    small.arena.evicted.close()


def test_nothing_of_a_device_is_used_for_rows_in_the_arena() -> None:
    assert TorchStepper(model(), 3, placement=IN_ARENA).arena.resident is None
    assert TorchStepper(model(), 3, placement=FEW_SIZES).arena.resident is not None
