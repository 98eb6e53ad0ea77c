"""What the source documents say gates do, and the kinds of models they name, in small."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
import torch
from networks import layer
from torch import Tensor, nn

from forecastd.features.characters import Alphabet, Item
from forecastd.network.graph import LayerGraph, States
from forecastd.network.kinds.contract import Shape
from forecastd.network.kinds.recurrent import Dropout
from forecastd.network.layers import LAYERS
from forecastd.network.layers.contract import Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import wire

OPEN, SHUT = 50.0, -50.0


def gated(i: float, f: float, o: float) -> nn.Module:
    """Return an LSTM of 2 units whose gates are held open or shut by their biases."""
    torch.manual_seed(1)
    made = layer("lstm", 3, hidden=2)
    with torch.no_grad():
        for gate, bias in enumerate([i, f, 0.0, o]):
            made.lstm.bias_ih_l0[2 * gate : 2 * gate + 2] = bias
    return made


def stepped(made: nn.Module, cell: float) -> tuple[Tensor, Tensor]:
    """Return output and cell after a step from a cell state of `cell`."""
    state = made.initial_state(1)._replace(cell=torch.full((1, 2), cell))
    with torch.no_grad():
        y, after = made.step(torch.ones(1, 3), state)
    return y[0], after.cell[0]


@pytest.mark.shows("S59", "S60", "S67", "S68", "S71")
def test_the_forget_gate_keeps_all_or_nothing() -> None:
    torch.testing.assert_close(stepped(gated(SHUT, OPEN, OPEN), 0.7)[1], torch.full((2,), 0.7))
    torch.testing.assert_close(stepped(gated(SHUT, SHUT, OPEN), 0.7)[1], torch.zeros(2))


@pytest.mark.shows("S60", "S69", "S71")
def test_the_input_gate_lets_the_candidate_in() -> None:
    shut, opened = (stepped(gated(i, OPEN, OPEN), 0.7)[1] for i in (SHUT, OPEN))
    made = gated(OPEN, OPEN, OPEN)
    candidate = torch.tanh(made.lstm.weight_ih_l0[4:6].sum(1)).detach()
    torch.testing.assert_close(opened - shut, candidate)


@pytest.mark.shows("S60", "S62", "S70")
def test_the_output_gate_reveals_tanh_of_the_cell() -> None:
    y, cell = stepped(gated(SHUT, OPEN, OPEN), 0.7)
    torch.testing.assert_close(y, torch.tanh(cell))
    assert stepped(gated(SHUT, OPEN, SHUT), 0.7)[0].abs().max() < 1e-6


@pytest.mark.shows("S74", "S79")
@pytest.mark.parametrize(("forget", "smallest", "largest"), [(OPEN, 0.99, 1.01), (-3.0, 0, 1e-30)])
def test_what_an_open_forget_gate_keeps_has_a_gradient_after_300_steps(
    forget: float, smallest: float, largest: float
) -> None:
    made = gated(SHUT, forget, OPEN)
    start = torch.full((1, 2), 0.3, requires_grad=True)
    _, after = made.unroll(torch.randn(1, 300, 3), made.initial_state(1)._replace(cell=start))
    after.cell.sum().backward()
    assert start.grad is not None
    assert smallest <= float(start.grad.abs().min()) <= largest


@pytest.mark.shows("S81", "S82")
@pytest.mark.parametrize(("size", "smallest", "largest"), [(0.5, 0, 1e-20), (2.0, 1e20, 1e40)])
def test_the_same_matrix_again_and_again_vanishes_or_explodes(
    size: float, smallest: float, largest: float
) -> None:
    """A recurrent network without gates: h = R h + x, whose gradient is a power of R."""
    plain = nn.RNN(3, 2, nonlinearity="relu", batch_first=True, bias=False)
    with torch.no_grad():
        plain.weight_hh_l0.copy_(size * torch.eye(2))
        plain.weight_ih_l0.fill_(1)
    xs = torch.ones(1, 100, 3, requires_grad=True)
    plain(xs)[0][:, -1].sum().backward()
    assert xs.grad is not None
    assert smallest <= float(xs.grad[0, 0].abs().max()) <= largest


@pytest.mark.shows("S65", "S107", "S125")
def test_layers_and_dropout_tell_who_proposed_them() -> None:
    """The layer is that of 1997 with a forget gate; of what was changed later there are options."""
    lstm = inspect.getdoc(LAYERS["lstm"]) or ""
    assert "Hochreiter & Schmidhuber 1997" in lstm
    dropout = inspect.getdoc(Dropout) or ""
    for method, paper in {
        "variational_weights": "Merity",
        "variational_input": "Gal",
        "variational_state": "Gal",
        "state_update": "Semeniuta",
    }.items():
        assert paper in dropout.partition(method)[2]


def learned(width: int, *layers: LayerSpec) -> LayerGraph:
    torch.manual_seed(0)
    return LayerGraph(wire(layers, Shape((width,))))


def losses(net: LayerGraph, batches: Iterator[tuple[Tensor, Tensor, bool]]) -> Iterator[float]:
    """Train on batches (inputs, labels, whether they start anew) and yield each loss."""
    solver = torch.optim.Adam(net.parameters(), 0.02)
    state: States | None = None
    for xs, codes, fresh in batches:
        state = net.initial_state(len(xs)) if fresh or state is None else state
        scores, after = net.unroll(Signal(xs), state)
        state = tuple(type(one)(*(part.detach() for part in one)) for one in after)
        loss = nn.functional.cross_entropy(scores.values.flatten(0, 1), codes.flatten())
        solver.zero_grad()
        loss.backward()
        solver.step()
        yield float(loss.detach())


TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer " * 6


@pytest.mark.shows("S77", "S115")
def test_a_network_of_characters_learns_a_text_and_carries_its_state() -> None:
    alphabet = Alphabet([Item("".join(sorted(set(TEXT))))])
    codes = torch.tensor(alphabet.encode(TEXT)).float()
    net = learned(
        1,
        LayerSpec(
            "characters", "characters", {"alphabet": [alphabet.characters], "form": "unit-vector"}
        ),
        LayerSpec("lstm", "lstm", {"hidden": 48}),
        LayerSpec("fc", "fully_connected", {"size": alphabet.size}),
    )
    points = torch.tensor([float(ord(letter)) for letter in TEXT])

    def pieces() -> Iterator[tuple[Tensor, Tensor, bool]]:
        for _ in range(6):
            for at in range(0, len(TEXT) - 26, 25):
                yield (
                    points[None, at : at + 25, None],
                    codes[None, at + 1 : at + 26].long() - 1,
                    (at == 0),
                )

    found = list(losses(net, pieces()))
    assert sum(found[-5:]) < 0.5 * sum(found[:5])


@pytest.mark.shows("S29", "S75")
def test_a_language_model_of_words_learns_which_word_follows() -> None:
    words = TEXT.split()
    known = sorted(set(words))
    codes = torch.tensor([float(known.index(word) + 1) for word in words])
    net = learned(
        1,
        LayerSpec("words", "word_embedding", {"dimension": 8, "words": len(known)}),
        LayerSpec("lstm", "lstm", {"hidden": 24}),
        LayerSpec("fc", "fully_connected", {"size": len(known)}),
    )
    batch = codes[None, :-1, None], codes[None, 1:].long() - 1, True
    found = list(losses(net, iter([batch] * 80)))
    assert found[-1] < 0.3 * found[0]


@pytest.mark.shows("S20", "S76")
def test_a_bidirectional_network_reads_images_row_by_row() -> None:
    """Images of 28 rows of 28: a bar lies in the upper or lower half, left or right."""
    dice = torch.Generator().manual_seed(0)
    images, codes = torch.rand(80, 28, 28, generator=dice) * 0.2, torch.arange(80) % 4
    for image, code in zip(images, codes.tolist(), strict=True):
        top = 14 * (code // 2) + int(torch.randint(0, 10, (1,), generator=dice))
        image[top : top + 3, 14 * (code % 2) : 14 * (code % 2) + 14] += 1
    net = learned(
        28,
        LayerSpec("rows", "bilstm", {"hidden": 12, "output": "last"}),
        LayerSpec("fc", "fully_connected", {"size": 4}),
    )
    batch = images[:60], codes[:60, None], True
    assert list(losses(net, iter([batch] * 40)))[-1] < 0.2
    with torch.no_grad():
        scores, _ = net.unroll(Signal(images[60:]), net.initial_state(20))
    assert float((scores.values[:, 0].argmax(-1) == codes[60:]).float().mean()) >= 0.9
