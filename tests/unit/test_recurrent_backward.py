"""Back-propagation through time by its formulas, against what torch differentiates by itself."""

from __future__ import annotations

import pytest
import torch
from networks import layer
from torch import Tensor

WIDTH, HIDDEN, ROWS, STEPS = 3, 4, 2, 6

DERIVATIVES = {
    "tanh": lambda x: 1 - torch.tanh(x) ** 2,
    "softsign": lambda x: 1 / (1 + x.abs()) ** 2,
    "relu": lambda x: (x > 0).double(),
    "sigmoid": lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)),
    "hard-sigmoid": lambda x: 0.2 * (x.abs() < 2.5).double(),
}
"""Of the activations, by hand."""


class Trace:
    """The values of a forward pass that the backward one needs, step by step."""

    def __init__(self) -> None:
        self.sums: list[tuple[Tensor, ...]] = []
        self.parts: list[tuple[Tensor, ...]] = []
        self.hidden: list[Tensor] = []
        self.cell: list[Tensor] = []


def forward(weights: list[Tensor], xs: Tensor, squash: object, gate: object) -> Trace:
    w, r, b, p = weights
    trace = Trace()
    h = c = torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    trace.hidden.append(h)
    trace.cell.append(c)
    for x in xs.unbind(1):
        i, f, g, o = (x @ w.T + h @ r.T + b).chunk(4, 1)
        i, f = i + p[0] * c, f + p[1] * c
        parts = gate(i), gate(f), squash(g)
        c = parts[1] * c + parts[0] * parts[2]
        o = o + p[2] * c
        h = gate(o) * squash(c)
        trace.sums.append((i, f, g, o))
        trace.parts.append((*parts, gate(o)))
        trace.hidden.append(h)
        trace.cell.append(c)
    return trace


def backward(
    weights: list[Tensor], xs: Tensor, trace: Trace, above: Tensor, names: tuple[str, str]
) -> list[Tensor]:
    """Return the gradients of W, R, b, peepholes and inputs, for those of the outputs."""
    w, r, _, p = weights
    slope, of_gate = DERIVATIVES[names[0]], DERIVATIVES[names[1]]
    squash = {"tanh": torch.tanh, "softsign": torch.nn.functional.softsign, "relu": torch.relu}
    found = [torch.zeros_like(part) for part in (*weights, xs)]
    dh = dc = torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    for t in reversed(range(STEPS)):
        (i, f, g, o), sums = trace.parts[t], trace.sums[t]
        before, cell = trace.cell[t], trace.cell[t + 1]
        dh = dh + above[:, t]
        da_o = dh * squash[names[0]](cell) * of_gate(sums[3])
        dc = dc + dh * o * slope(cell) + p[2] * da_o
        da_i, da_f = dc * g * of_gate(sums[0]), dc * before * of_gate(sums[1])
        da = torch.cat([da_i, da_f, dc * i * slope(sums[2]), da_o], 1)
        found[0] += da.T @ xs[:, t]
        found[1] += da.T @ trace.hidden[t]
        found[2] += da.sum(0)
        found[3] += torch.stack(
            [(da_i * before).sum(0), (da_f * before).sum(0), (da_o * cell).sum(0)]
        )
        found[4][:, t] = da @ w
        dh = da @ r
        dc = dc * f + p[0] * da_i + p[1] * da_f
    return found


@pytest.mark.shows("S73", "S86")
@pytest.mark.parametrize("gate", ["sigmoid", "hard-sigmoid"])
@pytest.mark.parametrize("squash", ["tanh", "softsign", "relu"])
@pytest.mark.parametrize("kind", ["lstm", "peephole_lstm"])
def test_gradients_are_those_of_the_formulas(kind: str, squash: str, gate: str) -> None:
    torch.manual_seed(0)
    options = {"state_activation": squash, "gate_activation": gate}
    made = layer(kind, WIDTH, hidden=HIDDEN, **options).double()
    parameters = [p for p in made.parameters() if p.requires_grad]
    for parameter in parameters:
        torch.nn.init.normal_(parameter, std=0.5)
    xs = torch.randn(ROWS, STEPS, WIDTH, dtype=torch.float64, requires_grad=True)
    above = torch.randn(ROWS, STEPS, HIDDEN, dtype=torch.float64)
    ys, _ = made.unroll(xs, made.initial_state(ROWS))
    ys.backward(above)
    weights = [parameter.detach() for parameter in parameters]
    if kind == "lstm":
        weights.append(torch.zeros(3, HIDDEN, dtype=torch.float64))
    cell = made._cell()
    trace = forward(weights, xs.detach(), cell.squash, cell.gate)
    found = backward(weights, xs.detach(), trace, above, (squash, gate))
    torch.testing.assert_close(
        torch.stack(trace.hidden[1:], 1), ys.detach(), rtol=1e-12, atol=1e-12
    )
    expected = [*(parameter.grad for parameter in parameters), xs.grad]
    if kind == "lstm":
        del found[3]
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-11, atol=1e-11)


@pytest.mark.shows("S73")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lstm", {"gate_activation": "hard-sigmoid", "state_activation": "softsign"}),
        ("gru", {"reset": "before-multiplication"}),
        ("gru", {"reset": "after-multiplication", "state_activation": "softsign"}),
        ("peephole_lstm", {}),
        ("peephole_lstm", {"variant": "input-node"}),
        ("projected_lstm", {"input_projector": 2, "output_projector": 1}),
        ("bilstm", {"output": "last"}),
    ],
    ids=str,
)
def test_gradients_of_weights_are_those_of_differences(kind: str, options: dict[str, str]) -> None:
    torch.manual_seed(2)
    made = layer(kind, 2, hidden=2, **options).double()
    parameters = [p for p in made.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    xs, lengths = torch.randn(2, 3, 2, dtype=torch.float64), torch.tensor([3, 2])

    def run(*_: Tensor) -> tuple[Tensor, ...]:
        ys, after = made.unroll(xs, made.initial_state(2), lengths)
        return ys, *after

    assert torch.autograd.gradcheck(run, parameters, fast_mode=True)


@pytest.mark.shows("S74", "S79", "S81", "S82")
def test_what_the_cell_holds_is_passed_on_by_the_forget_gates_alone() -> None:
    """A plain recurrence multiplies by the same matrix at each step, so its gradient fades."""
    torch.manual_seed(0)
    steps = 60
    made = layer("lstm", WIDTH, hidden=HIDDEN).double()
    with torch.no_grad():
        made.lstm.weight_hh_l0.zero_()
        made.lstm.weight_ih_l0[HIDDEN : 2 * HIDDEN] = 0
        made.lstm.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 4
    cell = torch.zeros(1, HIDDEN, dtype=torch.float64, requires_grad=True)
    begin = made.initial_state(1)._replace(cell=cell)
    xs = torch.randn(1, steps, WIDTH, dtype=torch.float64)
    made.unroll(xs, begin)[1].cell.sum().backward()
    kept = torch.sigmoid(torch.tensor(4.0, dtype=torch.float64)) ** steps
    torch.testing.assert_close(cell.grad, kept.expand(1, HIDDEN))

    plain = torch.nn.RNN(WIDTH, HIDDEN, batch_first=True).double()
    first = torch.zeros(1, 1, HIDDEN, dtype=torch.float64, requires_grad=True)
    plain(xs, first)[1].sum().backward()
    assert first.grad.abs().max() < 1e-6 < kept
