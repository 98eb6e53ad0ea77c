"""How long a step of a model takes on this machine, beside what the machine itself can do.

All that is compared takes turns, round after round, so that whatever else the machine does meets
each of them; a figure is the median over the rounds of the median call, and a ratio the median of
the rounds' ratios. Needs no torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.errors import BugError, UserError
from forecastd.features.spec import FeatureSpec
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.shapes import weight_shapes
from forecastd.network.spec import HeadSpec, NetworkSpec, lstm_chain
from forecastd.runtime.stepper import Stepper
from forecastd.series import (
    FloatArray,
    Frequency,
    IntArray,
    Keys,
    ObservationBatch,
    Signature,
)

ROUND_NS = 10_000_000
"""About how long one of those compared runs before the next has its turn."""

LONG_CALL_NS = 200_000
"""Calls from here on are timed by the processor time of the thread: the system is likely to let
another program run meanwhile. Shorter ones are not, for reading that clock costs half a us."""

MATMUL_ROWS = 1024
COPY_BYTES = 256 << 20
SINGLE_CALLS_MIN = 20_000
_CALLS_MIN, _CALLS_MAX, _WARM_UP_CALLS = 3, 4096, 5
_POOL = 64
_WEIGHTS_SPREAD = 0.1


Clock = Callable[[], int]
"""Tells ns since some fixed moment."""


class Turn(NamedTuple):
    """One of those compared: `call` is timed, `before` each call is not. calls_min: in all."""

    call: Callable[[], object]
    before: Callable[[], object] | None = None
    calls_min: int = 0


@dataclass(frozen=True)
class Timing:
    """rounds_us: the median call of each round. calls_ns: every call of every round."""

    rounds_us: NDArray[np.float64]
    calls_ns: IntArray

    @property
    def us(self) -> float:
        """The median over the rounds of the median call."""
        return float(np.median(self.rounds_us))

    def ratio_to(self, other: Timing) -> float:
        """Return how many times as long as `other` a call takes, compared round by round."""
        return float(np.median(self.rounds_us / other.rounds_us))

    def percentile_us(self, per_cent: float) -> float:
        """Return how long a call takes that is slower than so many per cent of them."""
        return float(np.percentile(self.calls_ns, per_cent)) / 1e3


class LstmShape(NamedTuple):
    """One layer: how many inputs it has, and how many hidden units."""

    inputs: int
    hidden: int


def take_turns(
    turns: Mapping[str, Turn], rounds: int, long_clock: Clock = time.thread_time_ns
) -> dict[str, Timing]:
    """Time those compared in turns, each for about ROUND_NS a round, after a warm-up.

    long_clock: of calls from LONG_CALL_NS on. A thread that waits for a GPU needs another.
    """
    counts: dict[str, int] = {}
    clocks: dict[str, Clock] = {}
    for name, turn in turns.items():
        _durations(turn, _WARM_UP_CALLS, time.perf_counter_ns)
        tried = _durations(turn, _WARM_UP_CALLS, time.perf_counter_ns)
        typical = max(1.0, float(np.median(tried)))
        clocks[name] = time.perf_counter_ns if typical < LONG_CALL_NS else long_clock
        usual = int(np.clip(ROUND_NS / typical, _CALLS_MIN, _CALLS_MAX))
        counts[name] = max(usual, -(-turn.calls_min // rounds))
    found: dict[str, list[IntArray]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            found[name].append(_durations(turn, counts[name], clocks[name]))
    return {
        name: Timing(np.array([np.median(calls) for calls in each]) / 1e3, np.concatenate(each))
        for name, each in found.items()
    }


def _durations(turn: Turn, count: int, clock: Clock) -> IntArray:
    """Return the ns that each of `count` calls took, reading the clock included."""
    durations = np.empty(count, np.int64)
    call, before = turn.call, turn.before
    for index in range(count):
        if before is not None:
            before()
        started = clock()
        call()
        durations[index] = clock() - started
    return durations


def untrained(
    hidden: int,
    layers: int,
    horizon: int = 1,
    quantiles: tuple[float, ...] = (),
    lags: int = 0,
) -> Artifact:
    """Return a model of random weights: two channels and a clock make eight inputs."""
    vocabulary = Vocabulary((), {}, {})
    features = FeatureSpec(2, ("hour",), 24.0, lags, 0, vocabulary.sizes)
    head = HeadSpec("quantile" if quantiles else "point", horizon, quantiles, lags)
    spec = NetworkSpec(features, lstm_chain(hidden, layers, 0.0, "sequence"), head)
    hourly = Frequency.parse("1h")
    signature = Signature("unique_id", "ds", "y", ("x",), (), hourly, 24, horizon, quantiles)
    dice = np.random.default_rng(0)
    weights = {
        name: dice.normal(0, _WEIGHTS_SPREAD, shape).astype(np.float32)
        for name, shape in weight_shapes(spec).items()
    }
    statistics = {name: np.zeros(0) for name in ("mean", "std", "mase_scale")}
    return Artifact(signature, spec, vocabulary, statistics, 24, weights, {}, {})


class Feed:
    """Made-up observations of `batch` series, each at its next time."""

    def __init__(self, artifact: Artifact, batch: int) -> None:
        signature = artifact.signature
        self._frequency = signature.frequency
        self.keys = Keys.of(f"series-{number}" for number in range(batch))
        self.times = np.zeros(batch, np.int64)
        shape = (_POOL, batch, len(signature.channels))
        self._pool = np.random.default_rng(0).normal(20, 10, shape).astype(np.float32)
        self._static: dict[str, list[str | None]] = {
            name: [None] * batch for name in signature.static
        }
        self._count = 0

    @property
    def values(self) -> FloatArray:
        """The newest values: [batch, C]."""
        newest: FloatArray = self._pool[self._count % _POOL]
        return newest

    def advance(self) -> None:
        """Go to the next time."""
        self._count += 1
        if self._frequency.kind == "month":
            self.times = self._frequency.advance(self.times, 1)
        else:
            self.times = self.times + self._frequency.size

    def batch(self) -> ObservationBatch:
        """Return the newest observations."""
        return ObservationBatch(self.keys, self.times, self.values, self._static)


def whole_turn(stepper: Stepper, feed: Feed, calls_min: int = 0) -> Turn:
    """Return `stepper.step` of a micro-batch: from keys and columns to forecasts.

    What the stepper makes ahead between batches is not timed.
    """
    newest = feed.batch()

    def before() -> None:
        nonlocal newest
        stepper.prepare()
        feed.advance()
        newest = feed.batch()

    def call() -> None:
        stepper.step(newest)

    return Turn(call, before, calls_min)


class KernelTurns:
    """The kernels alone, called from Python: slots are known and columns are in their place.

    Gathering, stepping, forecasting and scattering are timed; finding slots by key is not, nor, in
    latency mode, what is made before the observation arrives. Raises UserError when the batch does
    not fit into one call.
    """

    def __init__(self, artifact: Artifact, batch: int, *, latency: bool = False) -> None:
        from forecastd.runtime.kernel_stepper import KernelStepper
        from forecastd.runtime.kernels import step as kernels
        from forecastd.runtime.kernels.compiling import direct

        self._stepper = KernelStepper(artifact, batch, threads=1, latency=latency)
        self._feed = Feed(artifact, batch)
        self._count = batch
        ours, program = self._stepper.batch, self._stepper.programs[0]
        if batch > ours.capacity:
            message = f"a batch of {batch} is more than one call of this model steps"
            raise UserError(message, hint=f"give at most {ours.capacity}")
        self._stepper.step(self._feed.batch())
        ours.slots[:batch], _ = self._stepper.arena.claim(self._feed.keys)
        program.rows[:batch] = np.arange(batch)
        self._call = partial(direct(kernels.run), program.table, batch)

    def turn(self, calls_min: int) -> Turn:
        """Return the step of all series."""
        return Turn(self._call, self._before, calls_min)

    def require_used(self) -> None:
        """Raise BugError unless the newest observations were used: no figure of refused ones."""
        if self._stepper.batch.status[: self._count].any():
            message = "the kernels refused observations while they were measured"
            raise BugError(message)

    def _before(self) -> None:
        """Put the next observations in their place; in latency mode, make ahead what can be."""
        self._feed.advance()
        ours, count = self._stepper.batch, self._count
        ours.times[:count], ours.values[:count] = self._feed.times, self._feed.values
        self._stepper.prepare()


def wave_turn(artifact: Artifact, batch: int, device: str, calls_min: int = 0) -> Turn | None:
    """Return one wave of the torch stepper; None where the batch is more than one wave takes.

    Slots are known and what enters is staged. Crossing to the device and back is timed.
    """
    from forecastd.runtime.torch_stepper import TorchStepper
    from forecastd.runtime.waves import Mode

    stepper, feed = TorchStepper(artifact, batch, device), Feed(artifact, batch)
    size = next((size for size in stepper.waves.sizes if size >= batch), None)
    if size is None:
        return None
    stepper.step(feed.batch())
    slots, _ = stepper.arena.claim(feed.keys)
    staged: Callable[[], FloatArray]

    def before() -> None:
        nonlocal staged
        feed.advance()
        observed = stepper.observed(slots, feed.times, feed.values)
        staged = stepper.waves.staged(Mode.STEP, size, observed)

    def call() -> object:
        return staged()

    return Turn(call, before, calls_min)


def lstm_shapes(artifact: Artifact) -> list[LstmShape]:
    """Return the LSTM layers of a model, the lowest first. Raises UserError where it has none."""
    names = [f"layers.{layer.name}.lstm.weight_ih_l0" for layer in artifact.spec.layers]
    weights = [artifact.weights[name] for name in names if name in artifact.weights]
    if not weights:
        message = "the model has no LSTM layer, and nothing else is compared"
        raise UserError(message, hint="measure another model")
    return [LstmShape(each.shape[1], each.shape[0] // 4) for each in weights]


def multiply_adds(artifact: Artifact) -> int:
    """Return how many multiply-adds one observation takes in layers and head."""
    weights = artifact.weights.items()
    return sum(a.size for name, a in weights if a.ndim == 2 and not name.startswith("encoder."))


def multiply_adds_ahead(artifact: Artifact) -> int:
    """Return how many of them latency mode makes before the observation arrives."""
    return sum(4 * hidden * hidden for _, hidden in lstm_shapes(artifact))


def matmul_turn(shapes: list[LstmShape]) -> Turn:
    """Return the products [MATMUL_ROWS, I + H] x [I + H, 4H] of all layers, by numpy."""
    dice = np.random.default_rng(0)
    products = []
    for inputs, hidden in shapes:
        left = dice.normal(size=(MATMUL_ROWS, inputs + hidden)).astype(np.float32)
        right = dice.normal(size=(inputs + hidden, 4 * hidden)).astype(np.float32)
        products.append((left, right, np.empty((MATMUL_ROWS, 4 * hidden), np.float32)))

    def call() -> None:
        for left, right, out in products:
            np.matmul(left, right, out=out)

    return Turn(call)


def matmul_operations(shapes: list[LstmShape]) -> int:
    """Return how many operations `matmul_turn` takes; a multiply-add is two."""
    return 2 * MATMUL_ROWS * sum((inputs + hidden) * 4 * hidden for inputs, hidden in shapes)


def copy_gb_per_s() -> float:
    """Return how many 10^9 bytes a second are copied in memory: each is read once, written once."""
    source = np.ones(COPY_BYTES, np.uint8)
    target = np.zeros(COPY_BYTES, np.uint8)
    timing = take_turns({"copy": Turn(partial(np.copyto, target, source))}, 1)["copy"]
    return COPY_BYTES / timing.us / 1e3
