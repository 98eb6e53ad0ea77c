"""A model that remembers: predictions from the states of its series, and states read and set.

It is what a notebook or a service in Python uses where the daemon is too much. The rows that it is
given are steps: it fills no holes and refuses nothing late, as the daemon does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.errors import DataError, UserError
from forecastd.features.encoder import Inputs
from forecastd.network.model import NetworkState, flatten, unflatten
from forecastd.series import IntArray

Array = NDArray[Any]
StateArrays = dict[str, Array]
"""What one series remembers, by name, as "layers.lstm_1.cell"; no axis of series."""

UNNAMED = ""
"""The series that is meant where none is named."""


class Session:
    """Predicts with a model from the states of its series, each by its name.

    `predict` and `classify` begin at the state that is there and leave it as it is;
    `predict_and_update` and `classify_and_update` also advance it, once the answer is there. A
    series that was never seen begins at the start: zeros, or what `start` gives it.

    values: one sequence [T, C] in the order of the signature's channels, NaN where missing (frames
    may keep their axes); a list of sequences of any lengths, for a list of answers, the same as one
    by one; or [B, T, C]. What comes back is of the same kind as what was given: arrays of NumPy,
    tensors, or lists; all float32. Of a forecast it is [T, horizon, Q], of a regression [T, R], of
    a classification [T, K] scores; without T where the network says one thing of a sequence. times
    [T]: int64 or datetime64, only needed where the model reads clocks. series: a name, or one for
    each sequence.

    start: arrays of states by series and name; those left out are as at the start.
    """

    def __init__(
        self, artifact: Artifact, *, start: Mapping[str, Mapping[str, Array]] | None = None
    ) -> None:
        self.artifact = artifact
        self._network = artifact.network.eval()
        self._names = list(self._network.layers)
        self._blank = self._network.initial_state(1)
        self._fields = flatten(self._blank, self._names)
        self._start = {name: self._read(arrays) for name, arrays in (start or {}).items()}
        self._states: dict[str, dict[str, torch.Tensor]] = dict(self._start)

    @property
    def series(self) -> list[str]:
        """The names of the series that have a state."""
        return list(self._states)

    def predict(self, values: Any, series: Any = None, times: Any = None) -> Any:
        """Return what the model says at each step; the states stay as they are.

        Raises DataError where values or times do not fit the model.
        """
        return self._answer(values, series, times, update=False)

    def predict_and_update(self, values: Any, series: Any = None, times: Any = None) -> Any:
        """Return what the model says, and advance the states to the end of the sequences.

        Raises UserError also where the network cannot be advanced because it sees the future, or
        where several sequences are not named, each differently.
        """
        return self._answer(values, series, times, update=True)

    def classify(self, values: Any, series: Any = None, times: Any = None) -> Any:
        """Return the label of each step, or of each sequence; the states stay as they are.

        Labels are a list of texts, or one text where there is one for the sequence.
        """
        self._require_classes()
        return self._answer(values, series, times, update=False, labels=True)

    def classify_and_update(self, values: Any, series: Any = None, times: Any = None) -> Any:
        """Return the labels, and advance the states to the end of the sequences."""
        self._require_classes()
        return self._answer(values, series, times, update=True, labels=True)

    def state(self, series: str = UNNAMED) -> StateArrays:
        """Return a copy of what a series remembers; of one never seen, how it will begin."""
        row = self._row(series)
        return {name: tensor.numpy(force=True).copy() for name, tensor in row.items()}

    def states(self) -> dict[str, StateArrays]:
        """Return a copy of all states by series."""
        return {name: self.state(name) for name in self._states}

    def set_state(self, arrays: Mapping[str, Array], series: str = UNNAMED) -> None:
        """Set what a series remembers; arrays that are left out are as at the start.

        Raises DataError where a name is unknown, a shape is wrong, or a number is not finite.
        """
        self._states[series] = self._read(arrays)

    def reset(self, series: str | None = None) -> None:
        """Put a series, or all of them, back to the start."""
        names = list(self._states) if series is None else [series]
        for name in names:
            self._states.pop(name, None)
            if name in self._start:
                self._states[name] = self._start[name]

    def _answer(
        self, values: Any, series: Any, times: Any, *, update: bool, labels: bool = False
    ) -> Any:
        given = _given(values, self.artifact.spec.features.frame)
        names = self._named(series, given, update=update)
        inputs, lengths = self._inputs(given, names, times)
        before = self._gather(names)
        with torch.inference_mode():
            forecast, after = self._network.unroll(inputs, before, lengths=lengths)
            numbers = forecast.unscaled().float()
        answers = self._cut(numbers, given)
        if update:
            rows = flatten(after, self._names)
            for place, name in enumerate(names):
                self._states[name] = {n: t[place].clone() for n, t in rows.items()}
        if labels:
            told = [self._labels(answer) for answer in answers]
            return told if given.many else told[0]
        return given.back(answers)

    def _cut(self, numbers: torch.Tensor, given: _Given) -> list[torch.Tensor]:
        """Return the real steps of each answer, without the axes that say nothing."""
        if self.artifact.signature.supervised:
            numbers = numbers[:, :, 0]
        if not self._network.layers.wiring.output.time:
            return list(numbers[:, 0])
        return [row[: len(own)] for row, own in zip(numbers, given.sequences, strict=True)]

    def _labels(self, scores: torch.Tensor) -> Any:
        classes = self.artifact.signature.classes
        best = scores.argmax(-1)
        return classes[int(best)] if best.ndim == 0 else [classes[code] for code in best.tolist()]

    def _named(self, series: Any, given: _Given, *, update: bool) -> list[str]:
        """Return the series of each sequence. Raises UserError where a state would be unclear."""
        count = len(given.sequences)
        alike = series is None or isinstance(series, str)
        names = [series or UNNAMED] * count if alike else list(series)
        if len(names) != count:
            message = f"{count} sequences were given, and the names of {len(names)} series"
            raise UserError(message)
        reason = self._network.layers.wiring.needs_future()
        if update and reason is not None:
            message = f"{reason}, so it has no state to go on from"
            raise UserError(message, hint="use predict or classify with whole sequences")
        if update and len(set(names)) < count:
            message = "sequences that update states need a series each, and no two the same"
            raise UserError(message, hint="give series=[...], or one sequence after the other")
        return names

    def _inputs(
        self, given: _Given, names: list[str], times: Any
    ) -> tuple[Inputs, torch.Tensor | None]:
        """Return the sequences as a batch, padded at their end, and their lengths."""
        channels, longest = self.artifact.spec.features.channels, given.longest
        values = np.full((len(names), longest, channels), np.nan, np.float32)
        for place, own in enumerate(given.sequences):
            _require_sequence(own, self.artifact, self._network.layers.wiring.min_length)
            values[place, : len(own)] = own
        lengths = torch.tensor([len(own) for own in given.sequences])
        stamps = np.zeros((len(names), longest), np.int64)
        if self.artifact.spec.features.clocks:
            stamps = _stamps(times, given)
        device = self._network.device
        inputs = Inputs(
            torch.from_numpy(values).to(device),
            torch.from_numpy(self.artifact.clocks(stamps)).to(device),
            torch.from_numpy(self.artifact.vocabulary.encode(names)).to(device),
        )
        equal = bool((lengths == longest).all())
        return inputs, None if equal else lengths.to(device)

    def _gather(self, names: list[str]) -> NetworkState:
        rows = [self._row(name) for name in names]
        flat = {name: torch.stack([row[name] for row in rows]) for name in self._fields}
        return unflatten(flat, self._blank, self._names)

    def _row(self, series: str) -> dict[str, torch.Tensor]:
        if series in self._states:
            return self._states[series]
        return {name: tensor[0] for name, tensor in self._fields.items()}

    def _read(self, arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """Return a row with some arrays set. Raises DataError where they do not fit."""
        row = {name: tensor[0] for name, tensor in self._fields.items()}
        for name, array in arrays.items():
            if name not in row:
                message = f"the network has no state called {name!r}"
                raise DataError(message, hint=f"it has {', '.join(row)}")
            found = torch.as_tensor(np.asarray(array)).to(row[name])
            if found.shape != row[name].shape:
                shapes = f"{tuple(found.shape)}, and {tuple(row[name].shape)} is needed"
                message = f"the state {name!r} has the shape {shapes}"
                raise DataError(message)
            if not bool(torch.isfinite(found).all()):
                message = f"the state {name!r} has numbers that are not finite"
                raise DataError(message)
            row[name] = found.clone()
        return row

    def _require_classes(self) -> None:
        if self.artifact.signature.task != "classification":
            message = f"the model is no classifier: its task is {self.artifact.signature.task}"
            raise UserError(message, hint="use predict")


@dataclass
class _Given:
    """Sequences as they were given. back: turns answers into what the person works with."""

    sequences: list[Array]
    many: bool
    back: Callable[[list[torch.Tensor]], Any]

    @property
    def longest(self) -> int:
        """The steps of the longest sequence."""
        return max(len(own) for own in self.sequences)


def _given(values: Any, frame: tuple[int, ...]) -> _Given:
    """Tell one sequence from several, and what they are made of. Raises DataError."""
    axes = {2, 1 + len(frame)} if frame else {2}
    if isinstance(values, list | tuple):
        if not len(values):
            message = "no sequences were given"
            raise DataError(message)
        found = [_numbers(each) for each in values]
        if found[0].ndim in axes:  # several sequences, whatever each is
            backs = [_back(each) for each in values]
            one_by_one = lambda answers: [b(a) for b, a in zip(backs, answers, strict=True)]  # noqa: E731
            return _Given([_flat(each, frame) for each in found], True, one_by_one)
    array, back = _numbers(values), _back(values)
    if array.ndim in axes:
        return _Given([_flat(array, frame)], False, lambda answers: back(answers[0]))
    if array.ndim - 1 in axes and len(array):
        sequences = [_flat(each, frame) for each in array]
        return _Given(sequences, True, lambda answers: back(torch.stack(answers)))
    message = f"a sequence has the axes [steps, channels], and {array.ndim} axes were given"
    raise DataError(message)


def _numbers(values: Any) -> Array:
    if isinstance(values, torch.Tensor):
        return values.detach().float().numpy(force=True)
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        message = f"the values are not an array of numbers: {error}"
        raise DataError(message) from error


def _back(values: Any) -> Callable[[torch.Tensor], Any]:
    """Return what turns a tensor into the kind of container that `values` is."""
    if isinstance(values, torch.Tensor):
        return lambda answer: answer.to(values.device)
    if isinstance(values, list | tuple):
        return lambda answer: answer.tolist()
    return lambda answer: answer.numpy(force=True)


def _flat(array: Array, frame: tuple[int, ...]) -> Array:
    return array.reshape(len(array), -1) if frame and array.shape[1:] == frame else array


def _require_sequence(own: Array, artifact: Artifact, least: int) -> None:
    """Raise DataError unless a sequence has the model's channels, and steps enough."""
    channels = artifact.signature.channels
    if own.ndim != 2 or own.shape[1] != len(channels):
        message = f"a step has {own.shape[-1]} numbers, and the model reads {len(channels)}"
        shown = ", ".join(channels[:8]) + ("..." if len(channels) > 8 else "")
        raise DataError(message, hint=f"in the order {shown}")
    if len(own) < max(1, least):
        message = f"a sequence has {len(own)} steps, and the network needs {max(1, least)}"
        raise DataError(message)


def _stamps(times: Any, given: _Given) -> IntArray:
    """Return times [B, T] as numbers. Raises DataError where there is not one for each step."""
    rows: Sequence[Any] = [] if times is None else (times if given.many else [times])
    stamps = np.zeros((len(given.sequences), given.longest), np.int64)
    lengths = [len(own) for own in given.sequences]
    if [len(row) for row in rows] != lengths:
        message = "the model reads clocks, and there is not a time for each step"
        raise DataError(message, hint="give times=[...], int64 microseconds or datetime64")
    for place, row in enumerate(rows):
        found = np.asarray(row)
        exact = found.astype("datetime64[us]") if found.dtype.kind == "M" else found
        stamps[place, : len(found)] = exact.astype(np.int64)
        stamps[place, len(found) :] = stamps[place, len(found) - 1]
    return stamps
