"""Normalisation of each channel over the steps of a mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from forecastd.network.kinds.contract import IN, Facts, Shape
from forecastd.network.kinds.normal import BatchNormOptions
from forecastd.network.layers.contract import Layer, LayerState
from forecastd.network.layers.padding import real_steps


class BatchNormLayer(Layer):
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, by channel (Ioffe & Szegedy 2015).

    In training mean and variance are those of the mini-batch over series, steps and places of a
    frame, padding left out; otherwise the stored ones, so a stream can be followed. The stored ones
    move towards those of each mini-batch by `decay`, the variance by the estimate with n - 1; with
    statistics "population" `finalise` replaces them by those of the whole training set.
    """

    options: BatchNormOptions
    mean: Tensor
    variance: Tensor

    def __init__(
        self, entering: Mapping[str, Shape], options: BatchNormOptions, facts: Facts
    ) -> None:
        super().__init__(entering, options, facts)
        channels = entering[IN].sizes[0]
        self.scale = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self._population: Population | None = None

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Normalise xs [B, T, C, ...]; in training, move the stored statistics."""
        mean, variance = self.mean, self.variance
        if self.training or self._population is not None:
            real = xs.flatten(0, 1) if lengths is None else xs[real_steps(lengths, xs.shape[1])]
            found = real.transpose(0, 1).flatten(1)
            if self._population is not None:
                self._population.add(found)
            elif found.numel() > 0:
                variance, mean = torch.var_mean(found, 1, correction=0)
                self._follow(mean.detach(), variance.detach(), found.shape[1])
        shape = (-1, *[1] * (xs.ndim - 3))
        factor = self.scale / torch.sqrt(variance + self.options.epsilon)
        return (xs - mean.view(shape)) * factor.view(shape) + self.offset.view(shape), state

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        with torch.no_grad():
            self.mean.lerp_(mean, self.options.decay)
            self.variance.lerp_(variance * (count / max(count - 1, 1)), self.options.decay)

    def collect(self) -> None:
        """Begin to gather the statistics of all that passes; mean and variance stay as they are."""
        self._population = Population(len(self.mean), self.mean.device)

    def settle(self) -> None:
        """Store what was gathered since `collect`, if anything was, as mean and variance."""
        gathered, self._population = self._population, None
        if gathered is not None and gathered.count > 0:
            with torch.no_grad():
                self.mean.copy_(gathered.mean)
                self.variance.copy_(gathered.squares / gathered.count)


class Population:
    """Mean and variance of numbers that arrive in parts, in float64 (Chan et al. 1979)."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, found: Tensor) -> None:
        """Take in numbers [C, n]."""
        count = found.shape[1]
        if count == 0:
            return
        variance, mean = torch.var_mean(found.double(), 1, correction=0)
        moved, total = mean - self.mean, self.count + count
        self.squares += variance * count + moved.square() * (self.count * count / total)
        self.mean += moved * (count / total)
        self.count = total


def finalise(network: nn.Module, sweep: Callable[[], None]) -> None:
    """Set the statistics of batch_norm layers that want those of the whole training set.

    sweep: passes the training set through the network once, without changing its mode. It is called
    once for each such layer, in the order they run, so that each sees what it will see later.
    """
    wanting = [
        module
        for module in network.modules()
        if isinstance(module, BatchNormLayer) and module.options.statistics == "population"
    ]
    training = network.training
    network.eval()
    with torch.no_grad():
        for layer in wanting:
            layer.collect()
            sweep()
            layer.settle()
    network.train(training)
