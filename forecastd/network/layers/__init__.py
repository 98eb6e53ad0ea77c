"""Layers as torch modules, one file each. To add one: its Kind, its class, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from forecastd.network.layers.batch_norm import BatchNormLayer
from forecastd.network.layers.bilstm import BilstmLayer
from forecastd.network.layers.characters import CharactersLayer
from forecastd.network.layers.contract import Layer
from forecastd.network.layers.conv1d import Conv1dLayer
from forecastd.network.layers.conv2d import Conv2dLayer
from forecastd.network.layers.dropout import DropoutLayer
from forecastd.network.layers.flatten import FlattenLayer
from forecastd.network.layers.folding import FoldingLayer, UnfoldingLayer
from forecastd.network.layers.fully_connected import FullyConnectedLayer
from forecastd.network.layers.global_pooling import GlobalAveragePoolingLayer, GlobalMaxPoolingLayer
from forecastd.network.layers.gru import GruLayer
from forecastd.network.layers.joining import AdditionLayer, ConcatenationLayer
from forecastd.network.layers.layer_norm import LayerNormLayer
from forecastd.network.layers.lstm import LstmLayer
from forecastd.network.layers.peephole import PeepholeLayer
from forecastd.network.layers.pooling import AveragePoolingLayer, MaxPoolingLayer
from forecastd.network.layers.projected import ProjectedLayer
from forecastd.network.layers.relu import ReluLayer
from forecastd.network.layers.sequence_last import SequenceLastLayer
from forecastd.network.layers.softmax import SoftmaxLayer
from forecastd.network.layers.word_embedding import WordEmbeddingLayer

LAYERS: dict[str, Callable[..., Layer]] = {
    "lstm": LstmLayer,
    "bilstm": BilstmLayer,
    "gru": GruLayer,
    "peephole_lstm": PeepholeLayer,
    "projected_lstm": ProjectedLayer,
    "dropout": DropoutLayer,
    "fully_connected": FullyConnectedLayer,
    "relu": ReluLayer,
    "softmax": SoftmaxLayer,
    "batch_norm": BatchNormLayer,
    "layer_norm": LayerNormLayer,
    "conv1d": Conv1dLayer,
    "max_pooling1d": MaxPoolingLayer,
    "average_pooling1d": AveragePoolingLayer,
    "global_max_pooling1d": GlobalMaxPoolingLayer,
    "global_average_pooling1d": GlobalAveragePoolingLayer,
    "conv2d": Conv2dLayer,
    "folding": FoldingLayer,
    "unfolding": UnfoldingLayer,
    "flatten": FlattenLayer,
    "word_embedding": WordEmbeddingLayer,
    "characters": CharactersLayer,
    "addition": AdditionLayer,
    "concatenation": ConcatenationLayer,
    "sequence_last": SequenceLastLayer,
}
"""Kind: class. Takes the shapes that enter by port, the options, and the facts of its Kind."""
