"""Both directions at once, and states that enter and leave by ports."""

from __future__ import annotations

import pytest
import torch
from networks import layer
from torch import Tensor, nn

from forecastd.errors import SpecError
from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import Shape
from forecastd.network.layers.contract import Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import Port, wire

WIDTH, HIDDEN = 3, 4


def numbers(rows: int, steps: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(rows, steps, WIDTH, dtype=torch.float64)


@pytest.mark.shows("S20")
@pytest.mark.trap(11)
def test_bilstm_is_torch_s_row_by_row() -> None:
    torch.manual_seed(0)
    every = layer("bilstm", WIDTH, hidden=HIDDEN).double().eval()
    last = layer("bilstm", WIDTH, hidden=HIDDEN, output="last").double().eval()
    last.load_state_dict(every.state_dict())
    twin = nn.LSTM(WIDTH, HIDDEN, batch_first=True, bidirectional=True).double()
    twin.load_state_dict(every.lstm.state_dict())
    xs, lengths = numbers(3, 6), [6, 1, 4]
    with torch.no_grad():
        ys, _ = every.unroll(xs, every.initial_state(3), torch.tensor(lengths))
        y, _ = last.unroll(xs, last.initial_state(3), torch.tensor(lengths))
        for row, length in enumerate(lengths):
            expected, (final, _) = twin(xs[row : row + 1, :length])
            torch.testing.assert_close(ys[row, :length], expected[0], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(y[row, 0], final[:, 0].flatten(), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(y[0, 0], ys[0, -1])
        padded, _ = twin(xs)
    assert not torch.allclose(padded[2, :4], ys[2, :4])


@pytest.mark.shows("S20", "S49")
def test_bilstm_carries_its_forward_state_into_the_next_piece() -> None:
    torch.manual_seed(0)
    made = layer("bilstm", WIDTH, hidden=HIDDEN).double().eval()
    xs = numbers(2, 8)
    with torch.no_grad():
        whole, last = made.unroll(xs, made.initial_state(2))
        one, state = made.unroll(xs[:, :5], made.initial_state(2))
        two, state = made.unroll(xs[:, 5:], state)
    split = torch.cat([one, two], 1)
    torch.testing.assert_close(split[..., :HIDDEN], whole[..., :HIDDEN], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(split[:, :5, HIDDEN:], whole[:, :5, HIDDEN:])
    torch.testing.assert_close(split[:, 5:, HIDDEN:], whole[:, 5:, HIDDEN:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.cell, last.cell, rtol=1e-12, atol=1e-12)


@pytest.mark.trap(21)
def test_bilstm_cannot_follow_a_stream() -> None:
    wiring = wire([LayerSpec("both", "bilstm", {"hidden": 2})], Shape((WIDTH,)))
    assert wiring.needs_future() == (
        "layer 'both' (bilstm) reads each sequence backwards too, from its end"
    )


def begun(**connected: str) -> LayerGraph:
    """Return an LSTM that begins where the connected outputs of another ended."""
    torch.manual_seed(0)
    first = LayerSpec("first", "lstm", {"hidden": HIDDEN, "state_outputs": True})
    options = {"hidden": HIDDEN, "state_inputs": True, "state_outputs": True}
    second = LayerSpec("second", "lstm", options, {"in": "input", **connected})
    return LayerGraph(wire([first, second], Shape((WIDTH,)))).double().eval()


@pytest.mark.shows("S94", "S95", "S96", "S116", "S118", "S119")
@pytest.mark.parametrize("ports", [(), ("hidden",), ("cell",), ("hidden", "cell")])
def test_states_enter_and_leave_by_ports(ports: tuple[str, ...]) -> None:
    graph = begun(**{port: f"first/{port}" for port in ports})
    xs, lengths = numbers(3, 5), torch.tensor([5, 2, 4])
    with torch.no_grad():
        found = graph.signals(Signal(xs, lengths), graph.initial_state(3))
        for row, length in enumerate(lengths.tolist()):
            one = xs[row : row + 1, :length]
            first, second = graph.layer("first"), graph.layer("second")
            ys, ended = first.unroll(one, first.initial_state(1))
            begin = second.initial_state(1)._replace(**{p: getattr(ended, p) for p in ports})
            outputs, after = second.unroll(one, begin)
            for name, state in (("first", ended), ("second", after)):
                for port in ("hidden", "cell"):
                    values, real = found[Port(name, port)]
                    assert values.shape == (3, 1, HIDDEN)
                    assert real is None
                    torch.testing.assert_close(values[row], getattr(state, port))
            torch.testing.assert_close(
                found[Port("first")].values[row, length - 1], ended.hidden[0]
            )
            torch.testing.assert_close(found[Port("second")].values[row, :length], outputs[0])
            assert torch.equal(ys[:, -1], ended.hidden)
    needs = graph.wiring.needs_future()
    assert (needs is None) == (not ports)
    assert (
        not ports
        or f"layer 'second' (lstm) takes its first state from another layer, at {ports[0]!r}"
        == needs
    )


@pytest.mark.shows("S94", "S96")
def test_a_step_gives_its_state_by_ports_too() -> None:
    made = layer("gru", WIDTH, hidden=HIDDEN, state_outputs=True).double().eval()
    x = numbers(2, 1)[:, 0]
    with torch.no_grad():
        found, after = made.step_ports({"in": x}, made.initial_state(2))
    assert found.keys() == {"out", "hidden"}
    assert torch.equal(found["hidden"], after.hidden)
    assert torch.equal(found["hidden"], found["out"])


@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        ("first", {}, "has no input 'hidden'"),
        ("first", {"state_inputs": True}, "takes at 'hidden' 4 numbers once a sequence"),
        ("first/cell", {"state_inputs": True}, "has no such output"),
        ("input", {"state_inputs": True}, "takes at 'hidden' 4 numbers once a sequence"),
    ],
)
def test_a_state_that_does_not_fit_is_one_sentence(
    source: str, options: dict[str, bool], reason: str
) -> None:
    layers = [
        LayerSpec("first", "gru", {"hidden": 4, "state_outputs": True}),
        LayerSpec("second", "gru", {"hidden": 4, **options}, {"in": "input", "hidden": source}),
    ]
    with pytest.raises(SpecError, match=reason) as caught:
        wire(layers, Shape((WIDTH,)))
    assert "'second'" in str(caught.value)


@pytest.mark.trap(18)
def test_chosen_steps_that_are_padding_stay_padding() -> None:
    layers = [LayerSpec("one", "gru", {"hidden": 2}), LayerSpec("two", "batch_norm")]
    graph = LayerGraph(wire(layers, Shape((WIDTH,)))).double().train()
    xs, lengths, at = numbers(3, 6), torch.tensor([6, 3, 1]), torch.tensor([0, 2, 4])
    with torch.no_grad():
        signal, _ = graph.unroll(Signal(xs, lengths), graph.initial_state(3), at)
        assert signal.lengths.tolist() == [3, 2, 1]
        every, _ = graph.layer("one").unroll(xs, graph.layer("one").initial_state(3), lengths)
        real = torch.cat(
            [every[row, [t for t in (0, 2, 4) if t < n]] for row, n in enumerate([6, 3, 1])]
        )
        scaled = (real - real.mean(0)) / (real.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(signal.values[0], scaled[:3], rtol=1e-9, atol=1e-9)


@pytest.mark.shows("S89")
def test_a_series_begins_with_the_state_that_the_options_give() -> None:
    first = {"hidden_state": [0.1, 0.2, 0.3, 0.4], "cell_state": [1.0, 2.0, 3.0, 4.0]}
    torch.manual_seed(0)
    both = layer("bilstm", WIDTH, hidden=2, **first).double().eval()
    twin = nn.LSTM(WIDTH, 2, batch_first=True, bidirectional=True).double()
    twin.load_state_dict(both.lstm.state_dict())
    xs = numbers(3, 5)
    begun = [
        torch.tensor(x, dtype=torch.float64).view(2, 1, 2).repeat(1, 3, 1) for x in first.values()
    ]
    with torch.no_grad():
        ys, _ = both.unroll(xs, both.initial_state(3))
        torch.testing.assert_close(ys, twin(xs, tuple(begun))[0], rtol=1e-12, atol=1e-12)
    one = layer("lstm", WIDTH, hidden=4, **first).initial_state(2)
    assert one.hidden.tolist() == [pytest.approx(first["hidden_state"])] * 2
    assert one.cell.tolist() == [first["cell_state"]] * 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hidden_state": [1.0]}, "hidden_state has 1 numbers, and the state has 4"),
        ({"cell_state": [1.0] * 5}, "cell_state has 5 numbers"),
        ({"cell_state": [1.0] * 4, "state_inputs": True}, "state_inputs takes the first state"),
    ],
)
def test_a_first_state_that_does_not_fit_is_one_sentence(
    options: dict[str, object], reason: str
) -> None:
    with pytest.raises(SpecError, match=reason):
        layer("lstm", WIDTH, hidden=4, **options)
