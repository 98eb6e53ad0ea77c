"""What a step is compared with: one step of torch.nn.LSTM and of ONNX Runtime, of the same shape.

Each takes a batch of inputs and states and returns output and states; neither scales, forecasts
or keeps states of series.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from forecastd.runtime.measuring import MATMUL_ROWS, LstmShape, Turn

_FLOAT, _INT_ATTRIBUTE, _LSTM_OPSET, _IR_VERSION = 1, 2, 14, 8
_GATES = [0, 3, 1, 2]
"""torch has i, f, g, o; ONNX has i, o, f, c."""


def torch_turn(shapes: list[LstmShape], batch: int, device: str = "cpu") -> Turn:
    """Return one step of torch.nn.LSTM, on one thread where it runs on the CPU."""
    import torch

    if device == "cpu":
        torch.set_num_threads(1)
    first = shapes[0]
    if all(shape == LstmShape(first.hidden, first.hidden) for shape in shapes[1:]):
        parts = [torch.nn.LSTM(*first, num_layers=len(shapes), batch_first=True)]
    else:
        parts = [torch.nn.LSTM(*shape, batch_first=True) for shape in shapes]
    lstms = [part.eval().to(device) for part in parts]
    x = torch.randn(batch, 1, first.inputs, device=device)
    states = [
        (torch.zeros(lstm.num_layers, batch, lstm.hidden_size, device=device),) * 2
        for lstm in lstms
    ]

    def call() -> None:
        with torch.inference_mode():
            out = x
            for lstm, state in zip(lstms, states, strict=True):
                out, _ = lstm(out, state)
        if device != "cpu":
            torch.cuda.synchronize(device)

    return Turn(call)


def torch_matmul_turn(shapes: list[LstmShape], device: str) -> Turn:
    """Return what measuring.matmul_turn does, by torch on a device."""
    import torch

    products = [
        (
            torch.randn(MATMUL_ROWS, inputs + hidden, device=device),
            torch.randn(inputs + hidden, 4 * hidden, device=device),
        )
        for inputs, hidden in shapes
    ]

    def call() -> None:
        for left, right in products:
            torch.matmul(left, right)
        torch.cuda.synchronize(device)

    return Turn(call)


def onnx_turn(shapes: list[LstmShape], batch: int) -> Turn | None:
    """Return one step of ONNX Runtime on one thread; None where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # type: ignore[import-not-found,unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model, feeds = onnx_lstm(shapes, random_weights(shapes), batch)
    providers = ["CPUExecutionProvider"]
    running = onnxruntime.InferenceSession(model, options, providers=providers)

    def call() -> None:
        running.run(None, feeds)

    return Turn(call)


LstmWeights = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""Of the inputs [4H, I], recurrent [4H, H], and the sum of both biases [4H]; gates i, f, g, o."""


def random_weights(shapes: list[LstmShape]) -> list[LstmWeights]:
    """Return weights for each layer."""
    dice = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray[Any, Any]:
        return dice.normal(0, 0.1, shape).astype(np.float32)

    return [(some(4 * h, i), some(4 * h, h), some(4 * h)) for i, h in shapes]


def onnx_lstm(
    shapes: list[LstmShape], weights: list[LstmWeights], batch: int
) -> tuple[bytes, dict[str, np.ndarray[Any, Any]]]:
    """Return a chain of LSTM layers as an ONNX model, and inputs and states to feed it.

    Input x: [1, batch, I]; states h1, c1, h2, ...: [1, batch, H]. Outputs y1 [1, 1, batch, H],
    and the next states. The bytes are written here, for the package onnx would be one more.
    """
    nodes, arrays, inputs, outputs = [], [], [], []
    feeds: dict[str, np.ndarray[Any, Any]] = {
        "x": np.random.default_rng(1).normal(size=(1, batch, shapes[0].inputs)).astype(np.float32)
    }
    source = "x"
    for number, ((_, hidden), parts) in enumerate(zip(shapes, weights, strict=True), 1):
        by_input, recurrent, bias = (_reordered(part, hidden) for part in parts)
        bias = np.concatenate([bias, np.zeros_like(bias)], 1)
        own = {"w": by_input, "r": recurrent, "b": bias}
        arrays += [_tensor(f"{name}{number}", array) for name, array in own.items()]
        names = [source, f"w{number}", f"r{number}", f"b{number}", "", f"h{number}", f"c{number}"]
        results = [f"y{number}", f"next_h{number}", f"next_c{number}"]
        nodes.append(_node("LSTM", names, results, {"hidden_size": hidden}))
        for name in ("h", "c"):
            feeds[f"{name}{number}"] = np.zeros((1, batch, hidden), np.float32)
            outputs.append(_value(f"next_{name}{number}", (1, batch, hidden)))
        outputs.append(_value(f"y{number}", (1, 1, batch, hidden)))
        source = f"next_h{number}"
    inputs = [_value(name, array.shape) for name, array in feeds.items()]
    graph = b"".join(
        [
            *(_bytes(1, node) for node in nodes),
            _bytes(2, b"lstm"),
            *(_bytes(5, array) for array in arrays),
            *(_bytes(11, each) for each in inputs),
            *(_bytes(12, each) for each in outputs),
        ]
    )
    opset = _bytes(1, b"") + _number(2, _LSTM_OPSET)
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, opset), feeds


def _reordered(part: np.ndarray[Any, Any], hidden: int) -> np.ndarray[Any, Any]:
    """Return [1, 4H, ...] with the gates in ONNX's order."""
    gates = part.reshape(4, hidden, *part.shape[1:])[_GATES]
    return np.ascontiguousarray(gates.reshape(1, *part.shape))


def _node(kind: str, inputs: list[str], outputs: list[str], options: dict[str, int]) -> bytes:
    attributes = [
        _bytes(1, name.encode()) + _number(3, value) + _number(20, _INT_ATTRIBUTE)
        for name, value in options.items()
    ]
    return b"".join(
        [
            *(_bytes(1, name.encode()) for name in inputs),
            *(_bytes(2, name.encode()) for name in outputs),
            _bytes(4, kind.encode()),
            *(_bytes(5, attribute) for attribute in attributes),
        ]
    )


def _tensor(name: str, array: np.ndarray[Any, Any]) -> bytes:
    sizes = b"".join(_number(1, size) for size in array.shape)
    return sizes + _number(2, _FLOAT) + _bytes(8, name.encode()) + _bytes(9, array.tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size)) for size in shape)
    tensor = _number(1, _FLOAT) + _bytes(2, sizes)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _number(field: int, value: int) -> bytes:
    """Return a field of protobuf that is a number."""
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    """Return a field of protobuf that is text, bytes or a message."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
