"""Dropout within recurrences: what each method masks, and for how long a mask lasts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from models import model, stored, waves
from networks import inputs, layer, network
from torch import Tensor
from torch.nn import functional

from forecastd.data.lanes import Shape, pieces_of, sweep_plan, walk
from forecastd.features.spec import FeatureSpec
from forecastd.network.layers.contract import Layer, LayerState
from forecastd.network.model import detach, flatten, unflatten
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.network.walker import Walker

WIDTH, HIDDEN, ROWS, STEPS = 3, 4, 5, 6
LASTING = {"variational_input": 0.4, "variational_state": 0.4}
METHODS = ["variational_weights", "variational_input", "variational_state", "state_update"]


def made(kind: str, dropout: object, **options: object) -> Layer:
    torch.manual_seed(0)
    return layer(kind, WIDTH, hidden=HIDDEN, dropout=dropout, **options).double()


def numbers(steps: int = STEPS) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(ROWS, steps, WIDTH, dtype=torch.float64)


def run(one: Layer, xs: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
    with torch.no_grad():
        return one.unroll(xs, one.initial_state(ROWS) if state is None else state)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.shows("S100", "S120")
@pytest.mark.trap(40)
@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm", "bilstm"])
@pytest.mark.parametrize("method", METHODS)
def test_dropout_has_no_effect_but_in_training(kind: str, method: str) -> None:
    with_it, without, xs = made(kind, {method: 0.5}), made(kind, 0), numbers()
    without.load_state_dict(with_it.state_dict())
    same(run(with_it.eval(), xs)[0], run(without.train(), xs)[0])
    assert torch.equal(run(with_it, xs)[0], run(with_it, xs)[0])
    with_it.train()
    assert not torch.equal(run(with_it, xs)[0], run(with_it, xs)[0])
    torch.manual_seed(5)
    first = run(with_it, xs)[0]
    torch.manual_seed(5)
    assert torch.equal(run(with_it, xs)[0], first)


@pytest.mark.shows("S101", "S103")
def test_a_number_chooses_the_method_of_weights() -> None:
    short, long = made("lstm", 0.3), made("lstm", {"variational_weights": 0.3})
    assert short.options == long.options


@pytest.mark.shows("S103", "S107")
@pytest.mark.trap(37)
def test_dropped_weights_are_one_mask_of_the_recurrent_matrices_a_pass() -> None:
    one, xs = made("lstm", 0.5).train(), numbers()
    raw = one.lstm.weight_hh_l0.detach().clone()
    torch.manual_seed(7)
    kept = functional.dropout(raw, 0.5)
    plain = made("lstm", 0)
    plain.load_state_dict(one.state_dict())
    with torch.no_grad():
        plain.lstm.weight_hh_l0.copy_(kept)
    torch.manual_seed(7)
    ys, _ = one.unroll(xs, one.initial_state(ROWS))
    same(ys, run(plain, xs)[0])
    assert torch.equal(one.lstm.weight_hh_l0, raw)
    ys.square().sum().backward()
    gradient = one.lstm.weight_hh_l0.grad
    assert torch.equal(gradient == 0, kept == 0)
    assert one.lstm.weight_ih_l0.grad.all()


@pytest.mark.shows("S103")
def test_dropped_weights_are_the_weights_on_average() -> None:
    one = made("lstm", 0.5).train()
    masked = torch.stack([one.weights().recurrent for _ in range(4000)])
    raw = one.lstm.weight_hh_l0
    torch.testing.assert_close(masked.mean(0), raw, atol=0.08, rtol=0)
    assert ((masked == 0) | torch.isclose(masked, 2 * raw)).all()


@pytest.mark.shows("S104", "S107")
@pytest.mark.trap(38, 39)
def test_masked_inputs_keep_their_pattern_over_a_sequence() -> None:
    one, plain, xs = made("lstm", {"variational_input": 0.4}).train(), made("lstm", 0), numbers()
    begin = one.initial_state(ROWS)
    mask = begin.input_mask
    assert mask.shape == (ROWS, 1, WIDTH)
    assert set(mask.flatten().tolist()) <= {0.0, 1 / 0.6}
    assert not torch.equal(mask, mask[:1].expand_as(mask))
    ys, after = run(one, xs, begin)
    same(ys, run(plain, xs * mask)[0])
    assert torch.equal(after.input_mask, mask)


@pytest.mark.shows("S105", "S107")
@pytest.mark.trap(38)
@pytest.mark.parametrize("untied", [False, True])
def test_masked_states_enter_the_gates_and_nothing_else(untied: bool) -> None:
    one, xs = made("lstm", {"variational_state": 0.4, "untied": untied}).train(), numbers()
    begin = one.initial_state(ROWS)
    mask = begin.state_mask
    assert mask.shape == (ROWS, 4 if untied else 1, HIDDEN)
    w, r, b, _ = (part.detach() for part in one.lstm.parameters())
    ys, after = run(one, xs, begin)
    h = c = torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    for t in range(STEPS):
        masked = (mask * h[:, None]).expand(-1, 4, -1)
        recalled = torch.cat([masked[:, n] @ r.chunk(4)[n].T for n in range(4)], 1)
        i, f, g, o = (xs[:, t] @ w.T + recalled + b).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        same(ys[:, t], h)
    same(after.cell, c)


@pytest.mark.shows("S106", "S107")
@pytest.mark.trap(38)
def test_state_updates_are_masked_anew_each_step_and_the_cell_never() -> None:
    one, xs = made("lstm", {"state_update": 0.4}).train(), numbers()
    w, r, b, _ = (part.detach() for part in one.lstm.parameters())
    torch.manual_seed(3)
    ys, _ = run(one, xs)
    torch.manual_seed(3)
    h = c = torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    dropped = []
    for t in range(STEPS):
        i, f, g, o = (xs[:, t] @ w.T + h @ r.T + b).chunk(4, 1)
        update = functional.dropout(i.sigmoid() * g.tanh(), 0.4)
        dropped.append(update == 0)
        c = f.sigmoid() * c + update
        h = o.sigmoid() * c.tanh()
        same(ys[:, t], h)
    assert not torch.equal(dropped[0], dropped[1])


@pytest.mark.shows("S104", "S105")
@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm"])
def test_contributions_can_be_masked_instead(kind: str, untied: bool) -> None:
    one = made(kind, {**LASTING, "on": "contribution", "untied": untied}).train()
    begin, gates = one.initial_state(ROWS), len(one.options.gates)
    assert begin.input_mask.shape == (ROWS, gates if untied else 1, HIDDEN)
    weights = one.weights()
    xs = numbers(1)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.copy_(
                parameter if parameter is weights.input else torch.zeros_like(parameter)
            )
        made_of = (xs[:, 0] @ weights.input.T).view(ROWS, gates, HIDDEN) * begin.input_mask
        parts = made_of.unbind(1)
        if kind == "gru":
            expected = (1 - parts[1].sigmoid()) * parts[2].tanh()
        else:
            expected = parts[3].sigmoid() * (parts[0].sigmoid() * parts[2].tanh()).tanh()
    same(run(one, xs, begin)[0][:, 0], expected)


@pytest.mark.shows("S49", "S102")
@pytest.mark.trap(38)
@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm", "projected_lstm"])
def test_masks_last_over_the_pieces_of_a_sequence(kind: str) -> None:
    ranks = {"input_projector": 2, "output_projector": 2} if kind == "projected_lstm" else {}
    one, xs = made(kind, LASTING, **ranks).train(), numbers()
    begin = one.initial_state(ROWS)
    whole, last = run(one, xs, begin)
    first, state = run(one, xs[:, :2], begin)
    second, state = run(one, xs[:, 2:], state)
    same(torch.cat([first, second], 1), whole)
    stepped, after = [], begin
    with torch.no_grad():
        for t in range(STEPS):
            y, after = one.step(xs[:, t], after)
            stepped.append(y)
    same(torch.stack(stepped, 1), whole)
    for found, other, expected in zip(state, after, last, strict=True):
        same(found, expected)
        same(other, expected)


def test_rows_of_different_lengths_keep_their_masks() -> None:
    one, xs = made("gru", LASTING).train(), numbers()
    begin, lengths = one.initial_state(ROWS), torch.tensor([6, 1, 3, 0, 6])
    with torch.no_grad():
        ys, after = one.unroll(xs, begin, lengths)
        for row, length in enumerate(lengths.tolist()):
            mine = type(begin)(*(tensor[row : row + 1] for tensor in begin))
            if length:
                y, mine = one.unroll(xs[row : row + 1, :length], mine)
                same(ys[row : row + 1, :length], y)
            for found, expected in zip(after, mine, strict=True):
                same(found[row : row + 1], expected)


@pytest.mark.parametrize("kind", ["lstm", "gru", "bilstm"])
def test_masks_come_with_training_and_go_with_it(kind: str) -> None:
    one, xs = made(kind, LASTING), numbers()
    plain = one.eval().initial_state(ROWS)
    assert not hasattr(plain, "input_mask")
    _, masked = run(one.train(), xs, plain)
    assert masked.input_mask.shape[-1] == WIDTH
    assert masked.state_mask.shape[-1] == HIDDEN
    _, again = run(one.eval(), xs, masked)
    assert type(again) is type(plain)


def test_masks_of_a_network_travel_with_the_states_of_its_series() -> None:
    options = {"hidden": 4, "dropout": {"variational_input": 0.5, "state_update": 0.1}}
    spec = NetworkSpec(
        FeatureSpec(2, ("hour",), 12.0, 3, 2, (4,)),
        (LayerSpec("first", "lstm", options), LayerSpec("second", "gru", options)),
        HeadSpec("point", 2, (), 3),
    )
    net = network(spec, torch.float32).train()
    names = ["first", "second"]
    x = inputs(3, 8, 0, torch.float32)
    _, state = net.unroll(x, net.initial_state(3))
    flat = flatten(detach(state), names)
    assert flat["layers.first.input_mask"].shape == (3, 1, spec.features.width)
    fresh = flatten(net.initial_state(1), names)
    mixed = {n: t.index_copy(0, torch.tensor([1]), fresh[n]) for n, t in flat.items()}
    begun = unflatten(mixed, net.initial_state(1), names)
    _, after = net.unroll(x, begun)
    assert torch.equal(after.layers[0].input_mask, mixed["layers.first.input_mask"])


@pytest.mark.shows("S49")
@pytest.mark.trap(38)
def test_a_lane_keeps_its_masks_until_it_begins_anew(tmp_path: Path) -> None:
    store = stored(tmp_path, waves({"a": 40, "b": 12, "c": 27}))
    options = {"hidden": 4, "dropout": LASTING}
    trained = model()
    spec = dataclasses.replace(trained.spec, layers=(LayerSpec("only", "lstm", options),))
    net = network(spec, torch.float32).train()
    walker = Walker(net, trained.clocks, trained.vocabulary.encode(store.keys))
    ends = store.offsets[1:]
    plan = sweep_plan(pieces_of(store, store.offsets[:-1], ends, ends), 2)
    before, begun = None, 0
    for chunk in walk(store, plan, Shape(5, 5, 0)):
        forecast = walker.unroll(chunk)
        assert forecast.values.isfinite().all()
        state = walker.state.layers[0]
        masks = torch.cat([state.input_mask[:, 0], state.state_mask[:, 0]], 1)
        for lane, fresh in enumerate(chunk.fresh.tolist()):
            assert fresh or torch.equal(masks[lane], before[lane])
            begun += fresh and before is not None and not torch.equal(masks[lane], before[lane])
        before = masks
    assert begun > 0


@pytest.mark.shows("S102")
@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole_lstm", "bilstm"])
def test_methods_combine(kind: str) -> None:
    both = made(kind, dict.fromkeys(METHODS, 0.3)).train()
    ys, state = both.unroll(numbers(), both.initial_state(ROWS))
    assert state.input_mask.shape[-1] == WIDTH
    ys.square().sum().backward()
    trained = [parameter for parameter in both.parameters() if parameter.requires_grad]
    assert all(bool(parameter.grad.any()) for parameter in trained)


@pytest.mark.parametrize(
    ("dropout", "reason"),
    [
        (1.0, "dropout.variational_weights: Input should be less than 1"),
        (-0.1, "dropout.variational_weights"),
        ({"variational": 0.3}, "unknown option 'dropout.variational'"),
        ({"on": "output"}, "dropout.on"),
    ],
)
def test_dropout_that_is_not_understood_is_one_sentence(dropout: object, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        made("lstm", dropout)
