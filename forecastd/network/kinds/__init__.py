"""Kinds of layers as data, without torch. To add one: a Kind, and a line here."""

from __future__ import annotations

from forecastd.network.kinds.contract import Kind
from forecastd.network.kinds.convolution import CONV1D, CONV2D
from forecastd.network.kinds.joining import ADDITION, CONCATENATION
from forecastd.network.kinds.linear import FULLY_CONNECTED
from forecastd.network.kinds.mapping import RELU, SOFTMAX
from forecastd.network.kinds.normal import BATCH_NORM, LAYER_NORM
from forecastd.network.kinds.pooling import (
    AVERAGE_POOLING,
    GLOBAL_AVERAGE_POOLING,
    GLOBAL_MAX_POOLING,
    MAX_POOLING,
)
from forecastd.network.kinds.recurrent import BILSTM, GRU, LSTM, PEEPHOLE_LSTM, PROJECTED_LSTM
from forecastd.network.kinds.regular import DROPOUT
from forecastd.network.kinds.shaping import FLATTEN, FOLDING, SEQUENCE_LAST, UNFOLDING
from forecastd.network.kinds.text import CHARACTERS, WORD_EMBEDDING

KINDS: dict[str, Kind] = {
    "lstm": LSTM,
    "bilstm": BILSTM,
    "gru": GRU,
    "peephole_lstm": PEEPHOLE_LSTM,
    "projected_lstm": PROJECTED_LSTM,
    "dropout": DROPOUT,
    "fully_connected": FULLY_CONNECTED,
    "relu": RELU,
    "softmax": SOFTMAX,
    "batch_norm": BATCH_NORM,
    "layer_norm": LAYER_NORM,
    "conv1d": CONV1D,
    "max_pooling1d": MAX_POOLING,
    "average_pooling1d": AVERAGE_POOLING,
    "global_max_pooling1d": GLOBAL_MAX_POOLING,
    "global_average_pooling1d": GLOBAL_AVERAGE_POOLING,
    "conv2d": CONV2D,
    "folding": FOLDING,
    "unfolding": UNFOLDING,
    "flatten": FLATTEN,
    "word_embedding": WORD_EMBEDDING,
    "characters": CHARACTERS,
    "addition": ADDITION,
    "concatenation": CONCATENATION,
    "sequence_last": SEQUENCE_LAST,
}
"""What a layer's `type` may be."""
