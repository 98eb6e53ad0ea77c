"""Recurrent layers against the formulas of their definitions, and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from networks import layer
from torch import Tensor, nn

from forecastd.network.kinds import KINDS
from forecastd.network.kinds.contract import IN, Shape
from forecastd.network.layers.activations import GATE, STATE, hard_sigmoid
from forecastd.network.layers.contract import Layer, LayerState

WIDTH, HIDDEN, ROWS, STEPS = 3, 4, 2, 7


def exact(kind: str, width: int = WIDTH, *, seed: int = 0, **options: object) -> Layer:
    """Return a layer in float64 whose weights are all random, biases and peepholes too."""
    torch.manual_seed(seed)
    made = layer(kind, width, **{"hidden": HIDDEN, **options}).double()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
    return made.eval()


def numbers(rows: int = ROWS, steps: int = STEPS, width: int = WIDTH) -> Tensor:
    return torch.randn(rows, steps, width, dtype=torch.float64)


def states(*fields: str) -> list[Tensor]:
    return [torch.randn(ROWS, HIDDEN, dtype=torch.float64) for _ in fields]


def run(made: Layer, xs: Tensor, *first: Tensor) -> tuple[Tensor, LayerState]:
    begin = made.initial_state(len(xs))
    begin = type(begin)(*first) if first else begin
    with torch.no_grad():
        return made.unroll(xs, begin)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


@pytest.mark.shows("S58", "S59", "S60", "S61", "S62", "S63", "S64", "S84", "S93")
@pytest.mark.trap(1)
def test_lstm_is_its_component_equations() -> None:
    made = exact("lstm")
    w, r, b, _ = made.lstm.parameters()
    w, r, b = (part.detach().chunk(4) for part in (w, r, b))
    xs, (h, c) = numbers(), states("hidden", "cell")
    ys, after = run(made, xs, h, c)
    for t in range(STEPS):
        i, f, g, o = (xs[:, t] @ w[n].T + h @ r[n].T + b[n] for n in range(4))
        c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
        h = sigmoid(o) * torch.tanh(c)
        same(ys[:, t], h)
    same(after.cell, c)


@pytest.mark.shows("S67", "S68", "S69", "S70", "S71", "S72", "S78")
def test_lstm_is_its_form_over_state_and_input_side_by_side() -> None:
    made = exact("lstm")
    w, r, b, _ = made.lstm.parameters()
    both = torch.cat([r, w], 1).detach().chunk(4)
    w_i, w_f, w_c, w_o = both
    b_i, b_f, b_c, b_o = b.detach().chunk(4)
    xs, (h, c) = numbers(), states("hidden", "cell")
    ys, _ = run(made, xs, h, c)
    for t in range(STEPS):
        seen = torch.cat([h, xs[:, t]], 1)
        kept = sigmoid(seen @ w_f.T + b_f) * c
        candidate = torch.tanh(seen @ w_c.T + b_c)
        c = kept + sigmoid(seen @ w_i.T + b_i) * candidate
        h = sigmoid(seen @ w_o.T + b_o) * torch.tanh(c)
        same(ys[:, t], h)


@pytest.mark.shows("S68")
def test_a_forget_gate_lets_everything_through_or_nothing() -> None:
    made = exact("lstm")
    xs, first = numbers(steps=1), states("hidden", "cell")
    cells = []
    for level in (-1e3, 1e3):
        with torch.no_grad():
            made.lstm.bias_ih_l0[HIDDEN : 2 * HIDDEN] = level
        cells.append(run(made, xs, *first)[1].cell)
    same(cells[1] - cells[0], first[1])


@pytest.mark.shows("S19", "S80")
@pytest.mark.trap(1)
def test_lstm_is_torch_s_with_one_bias_in_the_first() -> None:
    made, twin = exact("lstm"), nn.LSTM(WIDTH, HIDDEN, batch_first=True).double()
    cell = nn.LSTMCell(WIDTH, HIDDEN).double()
    weights = [p.detach() for p in made.lstm.parameters()]
    for other in (twin, cell):
        for parameter, value in zip(other.parameters(), weights, strict=True):
            parameter.data.copy_(value)
    xs, (h, c) = numbers(), states("hidden", "cell")
    ys, after = run(made, xs, h, c)
    with torch.no_grad():
        expected, (last, memory) = twin(xs, (h[None], c[None]))
        for t in range(STEPS):
            h, c = cell(xs[:, t], (h, c))
    same(ys, expected)
    same(after.hidden, last[0])
    same(after.cell, memory[0])
    same(after.cell, c)


@pytest.mark.shows("S61", "S98")
@pytest.mark.trap(2)
@pytest.mark.parametrize(
    ("width", "hidden", "count"), [(12, 100, 45_200), (12, 125, 69_000), (125, 100, 90_400)]
)
def test_an_lstm_learns_one_bias(width: int, hidden: int, count: int) -> None:
    made = layer("lstm", width, hidden=hidden)
    trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
    assert sum(map(Tensor.numel, trained)) == count == 4 * hidden * (width + hidden + 1)
    assert not made.lstm.bias_hh_l0.requires_grad
    assert not made.lstm.bias_hh_l0.any()


@pytest.mark.shows("S89")
@pytest.mark.trap(2, 3)
def test_forget_gates_begin_open_by_one_bias() -> None:
    for kind in ("lstm", "bilstm"):
        own = layer(kind, WIDTH, hidden=HIDDEN).lstm
        for name, parameter in own.named_parameters():
            wanted = [[0] * 4, [float("bias_ih" in name)] * 4, [0] * 4, [0] * 4]
            assert "bias" not in name or parameter.view(4, 4).tolist() == wanted


@pytest.mark.shows("S64", "S89")
@pytest.mark.trap(4)
def test_activations_are_those_of_the_documents() -> None:
    x = torch.tensor([-3, -2.5, -1, 0, 1, 2.5, 3], dtype=torch.float64)
    same(hard_sigmoid(x), torch.tensor([0, 0, 0.3, 0.5, 0.7, 1, 1], dtype=torch.float64))
    assert not torch.allclose(hard_sigmoid(x), nn.functional.hardsigmoid(x))
    same(STATE["softsign"](x), x / (1 + x.abs()))
    same(STATE["relu"](x), x.clamp(min=0))
    same(GATE["sigmoid"](x), sigmoid(x))


@pytest.mark.shows("S62", "S63", "S89")
@pytest.mark.parametrize("gate", GATE)
@pytest.mark.parametrize("squash", STATE)
def test_the_state_activation_acts_twice(gate: str, squash: str) -> None:
    made = exact("lstm", state_activation=squash, gate_activation=gate)
    w, r, b, _ = (part.detach() for part in made.lstm.parameters())
    xs, (h, c) = numbers(), states("hidden", "cell")
    ys, _ = run(made, xs, h, c)
    for t in range(STEPS):
        i, f, g, o = (xs[:, t] @ w.T + h @ r.T + b).chunk(4, 1)
        c = GATE[gate](f) * c + GATE[gate](i) * STATE[squash](g)
        h = GATE[gate](o) * STATE[squash](c)
        same(ys[:, t], h)


@pytest.mark.shows("S89")
@pytest.mark.trap(5)
def test_weights_begin_by_the_fans_of_the_stacked_matrix() -> None:
    torch.manual_seed(0)
    width, hidden = 30, 50
    made = layer("lstm", width, hidden=hidden)
    bound = math.sqrt(6 / (width + 4 * hidden))
    weights = made.lstm.weight_ih_l0
    assert weights.abs().max() <= bound
    assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    recurrent = made.lstm.weight_hh_l0
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(hidden), atol=1e-5, rtol=0)
    block = recurrent[:hidden]
    assert not torch.allclose(block.T @ block, torch.eye(hidden), atol=0.1)


@pytest.mark.shows("S89")
def test_weights_begin_as_the_options_say() -> None:
    torch.manual_seed(0)
    sizes = {"hidden": 50}
    he = layer("gru", 30, input_initializer="he", recurrent_initializer="narrow-normal", **sizes)
    assert he.gru.weight_ih_l0.std().item() == pytest.approx(math.sqrt(2 / 30), rel=0.03)
    assert he.gru.weight_hh_l0.std().item() == pytest.approx(0.01, rel=0.03)
    flat = layer(
        "lstm", 30, input_initializer="ones", recurrent_initializer="zeros",
        bias_initializer="narrow-normal", **sizes,
    )  # fmt: skip
    assert (flat.lstm.weight_ih_l0 == 1).all()
    assert (flat.lstm.weight_hh_l0 == 0).all()
    assert flat.lstm.bias_ih_l0.std().item() == pytest.approx(0.01, rel=0.2)
    assert not flat.lstm.bias_hh_l0.any()


@pytest.mark.shows("S89", "S108")
def test_factors_are_by_gate() -> None:
    made = layer(
        "lstm", WIDTH, hidden=2, learn_rate_factors={"input": [1, 2, 3, 4], "recurrent": 5},
        l2_factors={"bias": [0, 1, 0, 0]},
    )  # fmt: skip
    factors = made.factors()
    rate, penalty = factors["lstm.weight_ih_l0"]
    assert rate[:, 0].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert penalty == 1
    assert factors["lstm.weight_hh_l0"] == (5, 1)
    assert factors["lstm.bias_ih_l0"][1].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert layer("gru", WIDTH, hidden=2).factors()["gru.bias_ih_l0"] == (1, 0)
    both = layer("bilstm", WIDTH, hidden=1, learn_rate_factors={"bias": list(range(8))}).factors()
    assert both["lstm.bias_ih_l0"][0].tolist() == [0, 1, 2, 3]
    assert both["lstm.bias_ih_l0_reverse"][0].tolist() == [4, 5, 6, 7]


@pytest.mark.shows("S80", "S21")
@pytest.mark.trap(6)
def test_gru_is_torch_s_in_the_mode_with_two_biases() -> None:
    made = exact("gru", reset="recurrent-bias-after-multiplication")
    twin = nn.GRU(WIDTH, HIDDEN, batch_first=True).double()
    twin.load_state_dict(made.gru.state_dict())
    xs, (h,) = numbers(), states("hidden")
    with torch.no_grad():
        expected, last = twin(xs, h[None])
    ys, after = run(made, xs, h)
    same(ys, expected)
    same(after.hidden, last[0])
    assert made.gru.bias_hh_l0.requires_grad


@pytest.mark.shows("S21")
@pytest.mark.trap(6)
@pytest.mark.parametrize("mode", ["after", "before", "recurrent-bias-after"])
@pytest.mark.parametrize("squash", ["tanh", "softsign"])
def test_gru_resets_where_the_option_says(mode: str, squash: str) -> None:
    made = exact("gru", reset=f"{mode}-multiplication", state_activation=squash)
    w, r, b, second = (part.detach() for part in made.gru.parameters())
    assert (mode == "recurrent-bias-after") == bool(second.any())
    xs, (h,) = numbers(), states("hidden")
    ys, _ = run(made, xs, h)
    (r_r, r_z, r_h), second_h = r.chunk(3), second.chunk(3)[2]
    for t in range(STEPS):
        of_r, of_z, of_h = (xs[:, t] @ w.T + b).chunk(3, 1)
        reset = sigmoid(of_r + h @ r_r.T + second.chunk(3)[0])
        update = sigmoid(of_z + h @ r_z.T + second.chunk(3)[1])
        inner = (reset * h) @ r_h.T if mode == "before" else reset * (h @ r_h.T + second_h)
        h = (1 - update) * STATE[squash](of_h + inner) + update * h
        same(ys[:, t], h)


@pytest.mark.shows("S83")
@pytest.mark.trap(7)
@pytest.mark.parametrize("variant", ["gers", "input-node"])
def test_peepholes_see_the_cell_where_the_variant_says(variant: str) -> None:
    made = exact("peephole_lstm", variant=variant)
    w, r, b, p = (made.state_dict()[n] for n in ("weight_ih", "weight_hh", "bias", "peephole"))
    xs, (h, c) = numbers(), states("hidden", "cell")
    ys, _ = run(made, xs, h, c)
    for t in range(STEPS):
        i, f, g, o = (xs[:, t] @ w.T + h @ r.T + b).chunk(4, 1)
        if variant == "gers":
            i, f = i + p[0] * c, f + p[1] * c
        else:
            g = g + p[0] * c
        c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
        o = o + p[2] * c if variant == "gers" else o
        h = sigmoid(o) * torch.tanh(c)
        same(ys[:, t], h)
    assert len(p) == {"gers": 3, "input-node": 1}[variant]


@pytest.mark.shows("S83")
def test_without_weight_on_peepholes_it_is_a_plain_lstm() -> None:
    made, plain = exact("peephole_lstm"), exact("lstm")
    with torch.no_grad():
        made.peephole.zero_()
        for one, other in zip(
            (made.weight_ih, made.weight_hh, made.bias), plain.lstm.parameters(), strict=False
        ):
            other.copy_(one)
    xs = numbers()
    same(run(made, xs)[0], run(plain, xs)[0])


@pytest.mark.trap(8)
def test_a_projected_lstm_keeps_its_output_size() -> None:
    ranks = {"input_projector": 2, "output_projector": 3}
    made, plain = exact("projected_lstm", **ranks), exact("lstm")
    parts = made.state_dict()
    plain.lstm.load_state_dict(
        {
            "weight_ih_l0": parts["weight_ih"] @ parts["input_projector"].T,
            "weight_hh_l0": parts["weight_hh"] @ parts["output_projector"].T,
            "bias_ih_l0": parts["bias"],
            "bias_hh_l0": torch.zeros_like(parts["bias"]),
        }
    )
    xs = numbers()
    ys, _ = run(made, xs)
    assert ys.shape == (ROWS, STEPS, HIDDEN)
    same(ys, run(plain, xs)[0])
    fresh = layer("projected_lstm", WIDTH, hidden=HIDDEN, **ranks)
    for name, rank in ranks.items():
        projector = getattr(fresh, name)
        torch.testing.assert_close(projector.T @ projector, torch.eye(rank), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["input_projector", "output_projector"])
def test_a_projector_has_no_more_columns_than_rows(name: str) -> None:
    options = {"hidden": HIDDEN, "input_projector": 2, "output_projector": 2, name: 9}
    wanted = KINDS["projected_lstm"]
    with pytest.raises(ValueError, match=f"{name} = 9"):
        wanted.facts(wanted.options.model_validate(options), {IN: Shape((WIDTH,))})


@pytest.mark.shows("S16", "S117")
@pytest.mark.trap(9)
@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm"])
def test_last_is_that_of_the_last_real_step(kind: str) -> None:
    every, last = exact(kind), exact(kind, output="last")
    xs, lengths = numbers(rows=3), torch.tensor([STEPS, 2, 5])
    with torch.no_grad():
        ys, _ = every.unroll(xs, every.initial_state(3), lengths)
        y, after = last.unroll(xs, last.initial_state(3), lengths)
        whole, _ = last.unroll(xs, last.initial_state(3))
    assert torch.equal(y[:, 0], ys[torch.arange(3), lengths - 1])
    assert torch.equal(y[:, 0], after.hidden)
    assert torch.equal(whole, every.unroll(xs, every.initial_state(3))[0][:, -1:])


@pytest.mark.shows("S51", "S52")
@pytest.mark.trap(10)
def test_a_step_of_zeros_moves_the_state() -> None:
    made = exact("lstm")
    _, after = run(made, torch.zeros(1, 1, WIDTH, dtype=torch.float64))
    assert after.hidden.any()


@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm"])
def test_a_row_without_steps_keeps_its_state(kind: str) -> None:
    made = exact(kind)
    begin = made.initial_state(2)
    begin = type(begin)(*(torch.randn_like(tensor) for tensor in begin))
    for lengths in ([0, 3], [0, 0]):
        with torch.no_grad():
            ys, after = made.unroll(numbers(), begin, torch.tensor(lengths))
        assert ys.shape == (2, STEPS, HIDDEN)
        for one, other in zip(begin, after, strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1]) == (lengths[1] == 0)


def test_what_is_missing_in_padding_does_not_spread() -> None:
    made, xs = exact("lstm"), numbers()
    xs[0, 3:] = torch.nan
    xs.requires_grad_()
    ys, after = made.unroll(xs, made.initial_state(ROWS), torch.tensor([3, STEPS]))
    (ys.sum() + after.cell.sum()).backward()
    assert ys.isfinite().all()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.requires_grad)
