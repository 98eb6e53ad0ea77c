"""Weights in the layouts of other systems give what those systems compute."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastd.errors import UserError
from forecastd.exchange.check import run_part
from forecastd.exchange.parts import Part, places_channels_last, places_column_major
from forecastd.exchange.recurrent import AFTER, BEFORE, WITH_BIAS
from forecastd.exchange.transfer import LAYOUTS, export_part, import_part

CHANNELS, HIDDEN, STEPS, BATCH = 3, 4, 7, 2
LSTM_LAYOUTS = LAYOUTS
SYSTEMS_OF_GRU = [
    (layout, reset)
    for layout, resets in {
        "pytorch": [AFTER, WITH_BIAS],
        "keras": [BEFORE, AFTER, WITH_BIAS],
        "matlab": [BEFORE, AFTER, WITH_BIAS],
        "wolfram": [AFTER],
        "onnx": [BEFORE, AFTER, WITH_BIAS],
    }.items()
    for reset in resets
]


def part(form: Any, flattened: tuple[int, ...] = (), **options: Any) -> Part:
    names = {"weight": "w", "bias": "b"} if form == "linear" else {}
    return Part("x", form, form, SimpleNamespace(**options), names, flattened, flattened)  # type: ignore[arg-type]


def random(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape)


def arrays_of(module: torch.nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in module.named_parameters()}


def lstm(seed: int, *, both: bool = False) -> torch.nn.LSTM:
    torch.manual_seed(seed)
    made = torch.nn.LSTM(CHANNELS, HIDDEN, batch_first=True, bidirectional=both)
    return made.double()


def outputs(module: torch.nn.Module, xs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        found: np.ndarray[Any, Any] = module(torch.from_numpy(xs))[0].numpy()
    return found


def ran(layout: Any, one: Part, arrays: Any, xs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found = run_part(layout, one, export_part(layout, one, arrays), xs)
    assert found is not None
    return found


def same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.trap(1, 2, 3)
@pytest.mark.shows("S61", "S64", "S72", "S78", "S93", "S98")
@pytest.mark.parametrize("layout", LSTM_LAYOUTS)
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_an_lstm_computes_the_same_in_every_layout(layout: Any, seed: int) -> None:
    module, one, xs = lstm(seed), part("lstm"), random(seed, BATCH, STEPS, CHANNELS)
    found = ran(layout, one, arrays_of(module), xs)
    np.testing.assert_allclose(found, outputs(module, xs), rtol=0, atol=1e-12)


@pytest.mark.trap(1)
@pytest.mark.parametrize("layout", LSTM_LAYOUTS)
def test_a_swap_of_two_gates_is_noticed(layout: Any) -> None:
    module, one, xs = lstm(1), part("lstm"), random(1, BATCH, STEPS, CHANNELS)
    arrays = arrays_of(module)
    i, f, g, o = np.split(arrays["weight_hh_l0"], 4)
    arrays["weight_hh_l0"] = np.concatenate([i, f, o, g])
    assert np.abs(ran(layout, one, arrays, xs) - outputs(module, xs)).max() > 1e-3


@pytest.mark.shows("S20")
@pytest.mark.parametrize("layout", LSTM_LAYOUTS)
def test_both_directions_compute_the_same_in_every_layout(layout: Any) -> None:
    module, one = lstm(5, both=True), part("bilstm")
    xs = random(5, BATCH, STEPS, CHANNELS)
    found = ran(layout, one, arrays_of(module), xs)
    np.testing.assert_allclose(found, outputs(module, xs), rtol=0, atol=1e-12)


def gru(seed: int, reset: str) -> tuple[dict[str, np.ndarray[Any, Any]], torch.nn.GRU]:
    torch.manual_seed(seed)
    module = torch.nn.GRU(CHANNELS, HIDDEN, batch_first=True).double()
    if reset != WITH_BIAS:
        with torch.no_grad():
            module.bias_hh_l0.zero_()
    return arrays_of(module), module


def before(arrays: Any, xs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The reset gate acts on the state, as Cho et al. 2014 have it."""
    w_r, w_z, w_n = np.split(arrays["weight_ih_l0"], 3)
    r_r, r_z, r_n = np.split(arrays["weight_hh_l0"], 3)
    b_r, b_z, b_n = np.split(arrays["bias_ih_l0"], 3)
    h, found = np.zeros((len(xs), HIDDEN)), []
    for x in xs.swapaxes(0, 1):
        r = 1 / (1 + np.exp(-(x @ w_r.T + h @ r_r.T + b_r)))
        z = 1 / (1 + np.exp(-(x @ w_z.T + h @ r_z.T + b_z)))
        h = (1 - z) * np.tanh(x @ w_n.T + (r * h) @ r_n.T + b_n) + z * h
        found.append(h)
    return np.stack(found, 1)


@pytest.mark.trap(6)
@pytest.mark.shows("S21", "S80")
@pytest.mark.parametrize(("layout", "reset"), SYSTEMS_OF_GRU)
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_a_gru_computes_the_same_in_every_layout(layout: Any, reset: str, seed: int) -> None:
    arrays, module = gru(seed, reset)
    one, xs = part("gru", reset=reset), random(seed, BATCH, STEPS, CHANNELS)
    wanted = before(arrays, xs) if reset == BEFORE else outputs(module, xs)
    np.testing.assert_allclose(ran(layout, one, arrays, xs), wanted, rtol=0, atol=1e-12)


@pytest.mark.trap(7)
@pytest.mark.shows("S83")
def test_peepholes_of_onnx_look_at_the_new_cell_from_the_output_gate() -> None:
    plain = arrays_of(lstm(2))
    bias = plain["bias_ih_l0"] + plain["bias_hh_l0"]
    weights = {"weight_ih": plain["weight_ih_l0"], "weight_hh": plain["weight_hh_l0"]}
    arrays = {**weights, "bias": bias, "peephole": random(2, 3, HIDDEN)}
    one, xs = part("peephole", variant="gers"), random(2, BATCH, STEPS, CHANNELS)
    p_i, p_f, p_o = arrays["peephole"]
    h, c, wanted = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN)), []
    for x in xs.swapaxes(0, 1):
        a = x @ arrays["weight_ih"].T + h @ arrays["weight_hh"].T + bias
        i, f, g, o = np.split(a, 4, 1)
        before, c = c, 0.0
        c = before / (1 + np.exp(-(f + p_f * before)))
        c = c + np.tanh(g) / (1 + np.exp(-(i + p_i * before)))
        h = np.tanh(c) / (1 + np.exp(-(o + p_o * c)))
        wanted.append(h)
    np.testing.assert_allclose(ran("onnx", one, arrays, xs), np.stack(wanted, 1), atol=1e-12)
    same(import_part("onnx", one, export_part("onnx", one, arrays), arrays), arrays)
    with pytest.raises(UserError, match="peepholes"):
        export_part("keras", one, arrays)


@pytest.mark.trap(4)
@pytest.mark.parametrize("layout", ["keras", "matlab", "onnx"])
def test_other_activations_go_along(layout: Any) -> None:
    one = part("lstm", state_activation="softsign", gate_activation="hard-sigmoid")
    xs, arrays = random(3, BATCH, STEPS, CHANNELS), arrays_of(lstm(3))
    plain = ran(layout, part("lstm"), arrays, xs)
    found = ran(layout, one, arrays, xs)
    np.testing.assert_allclose(found, ran("onnx", one, arrays, xs), atol=1e-12)
    assert np.abs(found - plain).max() > 1e-3


@pytest.mark.parametrize("layout", ["pytorch", "wolfram"])
def test_activations_that_a_system_lacks_are_refused(layout: Any) -> None:
    one = part("lstm", state_activation="tanh", gate_activation="hard-sigmoid")
    with pytest.raises(UserError, match="hard-sigmoid"):
        export_part(layout, one, arrays_of(lstm(0)))


@pytest.mark.shows("S99")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["lstm", "bilstm", "gru"])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_out_and_in_again_is_exact(layout: Any, form: str, seed: int) -> None:
    one = part(form, reset=AFTER)
    if form == "gru":
        arrays, _ = gru(seed, AFTER)
    else:
        arrays = arrays_of(lstm(seed, both=form == "bilstm"))
        for name in arrays:
            if name.startswith("bias_hh"):
                arrays[name][:] = 0
    theirs = export_part(layout, one, arrays)
    blank = {name: np.zeros_like(array) for name, array in arrays.items()}
    same(import_part(layout, one, theirs, blank), arrays)


FRAME = (2, 3, 4)
"""Channels, rows, columns."""


@pytest.mark.trap(36)
@pytest.mark.shows("S28")
def test_a_map_after_a_flattened_frame_reads_matlabs_columns() -> None:
    weight, frame = random(1, 5, 24), random(2, *FRAME)
    ours = weight @ frame.reshape(-1)
    theirs = export_part("matlab", part("linear", FRAME), {"weight": weight, "bias": np.zeros(5)})
    rows_columns_channels = np.moveaxis(frame, 0, -1)
    column_major = rows_columns_channels.reshape(-1, order="F")
    np.testing.assert_allclose(theirs["Weights"] @ column_major, ours, atol=1e-12)
    assert np.abs(theirs["Weights"] @ frame.reshape(-1) - ours).max() > 1e-3


@pytest.mark.trap(36)
def test_a_map_after_a_flattened_frame_reads_keras_with_channels_last() -> None:
    weight, frame = random(1, 5, 24), random(2, *FRAME)
    theirs = export_part("keras", part("linear", FRAME), {"weight": weight, "bias": np.zeros(5)})
    found = np.moveaxis(frame, 0, -1).reshape(-1) @ theirs["kernel"]
    np.testing.assert_allclose(found, weight @ frame.reshape(-1), atol=1e-12)


@pytest.mark.trap(36)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_lstm_after_a_flattened_frame_is_permuted_and_back(layout: Any) -> None:
    torch.manual_seed(0)
    module = torch.nn.LSTM(24, HIDDEN, batch_first=True).double()
    arrays, one = arrays_of(module), part("lstm", FRAME)
    frames = random(4, BATCH, STEPS, *FRAME)
    wanted = outputs(module, frames.reshape(BATCH, STEPS, -1))
    np.testing.assert_allclose(ran(layout, one, arrays, frames), wanted, atol=1e-12)
    arrays["bias_hh_l0"][:] = 0
    same(import_part(layout, one, export_part(layout, one, arrays), arrays), arrays)


def test_the_orders_of_a_flattened_frame_are_permutations() -> None:
    for places in (places_channels_last(FRAME), places_column_major(FRAME)):
        assert sorted(places.tolist()) == list(range(24))
    assert places_column_major((3,)).tolist() == places_channels_last((3,)).tolist() == [0, 1, 2]


def test_kernels_of_convolutions_have_the_axes_of_each_system() -> None:
    kernel, bias = random(1, 6, 2, 3, 5), random(2, 6)
    one = Part("c", "convolution", "conv2d", None, {}, (2, 9, 9))
    arrays = {"weight": kernel, "bias": bias}
    assert export_part("pytorch", one, arrays)["weight"].shape == (6, 2, 3, 5)
    for layout, name in (("keras", "kernel"), ("matlab", "Weights")):
        theirs = export_part(layout, one, arrays)
        assert theirs[name].shape == (3, 5, 2, 6)
        assert theirs[name][1, 4, 0, 3] == kernel[3, 0, 1, 4]
    assert export_part("matlab", one, arrays)["Bias"].shape == (1, 1, 6)
    for layout in LAYOUTS:
        same(import_part(layout, one, export_part(layout, one, arrays), arrays), arrays)


def test_tables_and_norms_have_the_names_of_each_system() -> None:
    table = Part("e", "embedding", "word_embedding", None, {}, (1,))
    assert export_part("matlab", table, {"weight": random(1, 7, 2)})["Weights"].shape == (2, 7)
    norm = Part("n", "batch_norm", "batch_norm", None, {}, (3, 8, 8))
    arrays = {name: random(1, 3) for name in ("scale", "offset", "mean", "variance")}
    assert export_part("matlab", norm, arrays)["TrainedMean"].shape == (1, 1, 3)
    assert set(export_part("pytorch", norm, arrays)) == {
        "weight", "bias", "running_mean", "running_var",
    }  # fmt: skip
    for layout in LAYOUTS:
        same(import_part(layout, norm, export_part(layout, norm, arrays), arrays), arrays)


@pytest.mark.shows("S99")
def test_a_wrong_shape_names_the_array_and_both_shapes() -> None:
    one, arrays = part("lstm"), arrays_of(lstm(0))
    theirs = export_part("wolfram", one, arrays)
    theirs["ForgetGateBiases"] = np.zeros(5)
    with pytest.raises(UserError, match="x/ForgetGateBiases has the shape 5, and 4 is needed"):
        import_part("wolfram", one, theirs, arrays)


def test_missing_and_unknown_arrays_are_named() -> None:
    one, arrays = part("lstm"), arrays_of(lstm(0))
    theirs = export_part("keras", one, arrays)
    with pytest.raises(UserError, match="'peepholes'"):
        import_part("keras", one, theirs | {"peepholes": np.zeros(3)}, arrays)
    del theirs["bias"]
    with pytest.raises(UserError, match="no array 'bias'"):
        import_part("keras", one, theirs, arrays)


def test_a_recurrent_bias_that_our_gru_has_not_is_refused() -> None:
    arrays, _ = gru(0, WITH_BIAS)
    one = part("gru", reset=WITH_BIAS)
    theirs = export_part("keras", one, arrays)
    with pytest.raises(UserError, match="recurrent bias"):
        import_part("keras", part("gru", reset=AFTER), theirs, arrays)
    same(import_part("keras", one, theirs, arrays), arrays)


@pytest.mark.trap(8)
def test_projectors_go_as_matlab_has_them_and_nowhere_else() -> None:
    one = part("projected")
    arrays = {
        "weight_ih": random(1, 16, 2), "weight_hh": random(2, 16, 3), "bias": random(3, 16),
        "input_projector": random(4, 5, 2), "output_projector": random(5, 4, 3),
    }  # fmt: skip
    theirs = export_part("matlab", one, arrays)
    assert {name: array.shape for name, array in theirs.items()} == {
        "InputWeights": (16, 2), "RecurrentWeights": (16, 3), "Bias": (16, 1),
        "InputProjector": (5, 2), "OutputProjector": (4, 3),
    }  # fmt: skip
    same(import_part("matlab", one, theirs, arrays), arrays)
    with pytest.raises(UserError, match="projectors"):
        export_part("pytorch", one, arrays)
