"""[train]: how the weights are found."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from forecastd.settings import Settings

LEARNING_RATES = {"adamw": 2e-3, "adam": 1e-3, "rmsprop": 1e-3, "sgdm": 1e-2, "lbfgs": 1.0}
"""What `lr` is where it is not set, by solver."""
L2 = 1e-4
"""What `l2` is where it is not set, and `weight_decay` with adamw."""
MAX_ITERATIONS_OF_LBFGS = 1000

FOR_ONE: dict[tuple[str, str], tuple[str, ...]] = {
    ("mode", "sequences"): (
        "sequence_length",
        "padding_value",
        "padding_direction",
        "shuffle",
        "sort",
        "mask_padding",
        "drop_last",
    ),
    ("solver", "lbfgs"): ("history", "gradient_tolerance", "step_tolerance"),
    ("schedule", "piecewise"): ("drop_factor", "drop_period"),
    ("loss", "huber"): ("huber_delta",),
}
"""Settings that mean something for one value of another one only."""

Solver = Literal["adamw", "adam", "sgdm", "rmsprop", "lbfgs"]
Share = Annotated[float, Field(ge=0, lt=1)]


class MultiplierSettings(Settings):
    """[[train.multipliers]]: how much quicker or slower a part of the network learns."""

    part: str | int = Field(
        description="a layer, layer/array, a pattern of these, a number or range of layers, _: all"
    )
    rate: float = Field(description="times the learning rate; 0: the part is not trained")


class TrainSettings(Settings):
    """[train]: how the weights are found."""

    mode: Literal["lanes", "windows", "sequences"] = Field(
        "lanes",
        description="lanes: contiguous walks with carried state; windows: random stretches; "
        "sequences: mini-batches of whole series",
    )
    epochs: int | None = Field(None, ge=1, description="passes over the data; none: from its size")
    max_iterations: int | None = Field(
        None, ge=1, description="steps of the solver at most; none: no limit, 1000 with lbfgs"
    )
    batch: int = Field(64, ge=1, le=65536, description="lanes, windows or series side by side")
    sequence: int = Field(96, ge=1, le=65536, description="steps of back-propagation through time")
    warmup: int | None = Field(
        None,
        ge=0,
        description="steps after a cold start that carry no loss; none: 24, or a quarter",
    )
    loss_stride: int | None = Field(
        None, ge=1, description="every n-th step carries loss; none: 4 for forecasts, else 1"
    )
    loss: Literal["auto", "mae", "mse", "half-mse", "huber", "quantile", "cross-entropy", "nll"] = (
        Field("auto", description="what is made small; auto: what suits the head")
    )
    huber_delta: float = Field(
        1.0, gt=0, description="errors of huber are squared up to here, in scaled units"
    )

    solver: Solver = "adamw"
    lr: float | None = Field(
        None, gt=0, le=10, description="learning rate, the highest of the schedule; none: by solver"
    )
    momentum: Share | None = Field(None, description="sgdm: share of the step before; none: 0.9")
    gradient_decay: Share | None = Field(
        None, description="adam, adamw: decay of the gradient's mean; none: 0.9"
    )
    squared_gradient_decay: Share | None = Field(
        None, description="decay of the squares' mean; none: 0.999, with rmsprop 0.9"
    )
    epsilon: float = Field(1e-8, gt=0, description="added to the root of the squares' mean")
    history: int = Field(10, ge=1, le=1000, description="lbfgs: steps that it remembers")
    gradient_tolerance: float = Field(
        1e-5, ge=0, description="lbfgs: ends where no gradient is larger"
    )
    step_tolerance: float = Field(1e-5, ge=0, description="lbfgs: ends where a step is smaller")
    schedule: Literal["onecycle", "constant", "none", "piecewise"] = "onecycle"
    drop_factor: float = Field(0.1, ge=0, le=1, description="piecewise: the rate is times this")
    drop_period: int = Field(10, ge=1, description="piecewise: every so many epochs")
    weight_decay: float | None = Field(
        None, ge=0, description="adamw: decay of all weights, beside the gradient; none: 1e-4"
    )
    l2: float | None = Field(
        None, ge=0, description="other solvers: times weight, in the gradient; none: 1e-4"
    )
    clip: float = Field(1.0, ge=0, description="threshold of the gradient; 0: none")
    clip_method: Literal["global-l2norm", "l2norm", "absolute-value"] = Field(
        "global-l2norm", description="what is held below it: the norm of all, of each, each number"
    )
    multipliers: list[MultiplierSettings] = Field(
        [], description="learning rates of parts; the first that fits counts"
    )

    validate_every: int | None = Field(
        None, ge=1, description="epochs between validations; none: a tenth of them all"
    )
    validation_frequency: int | None = Field(
        None, ge=1, description="iterations between validations, instead of epochs"
    )
    patience: int = Field(5, ge=0, description="validations without gain before stopping; 0: off")
    keep: Literal["best", "last"] = Field(
        "best", description="best: weights of the best validation; last: those of the last step"
    )
    loss_threshold: float | None = Field(
        None, description="ends when the loss of an epoch falls below; none: never"
    )
    checkpoint_every: int | None = Field(
        None, ge=1, description="epochs between checkpoints that can be gone on from; none: never"
    )
    report_every: int | None = Field(
        None, ge=1, description="iterations between lines on the terminal; none: each validation"
    )

    sequence_length: Literal["longest", "shortest"] | Annotated[int, Field(ge=1, le=65536)] = Field(
        "longest", description="sequences: all of a batch become this long; a number splits them"
    )
    padding_value: float = Field(
        0.0, allow_inf_nan=False, description="sequences, not masked: scaled input of padding"
    )
    padding_direction: Literal["right", "left"] = Field(
        "right", description="sequences: the side that is padded or cut off"
    )
    shuffle: Literal["never", "once", "every-epoch"] = Field(
        "every-epoch", description="sequences: when their order is drawn"
    )
    sort: Literal["none", "ascending", "descending"] = Field(
        "none", description="sequences: by length, within what is shuffled"
    )
    mask_padding: bool = Field(
        True, description="sequences: padding changes nothing; false: it is input like any other"
    )
    drop_last: bool = Field(False, description="sequences: leave out a last batch that is not full")

    seed: int = Field(0, ge=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(
        None, ge=1, description="CPU threads; none: one up to 128 hidden units, else all cores"
    )

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> TrainSettings:
        if problem := next(filter(None, (self._solver_problem(), self._loop_problem())), None):
            raise ValueError(problem)
        return self

    def _solver_problem(self) -> str | None:
        """Return what does not go with the solver."""
        if self.solver == "adamw" and self.l2 is not None:
            return "adamw knows no l2: set weight_decay, or solver = 'adam'"
        if self.solver != "adamw" and self.weight_decay is not None:
            return f"weight_decay is for adamw: with {self.solver} set l2"
        if self.solver != "sgdm" and self.momentum is not None:
            return "momentum is for sgdm: with adam and adamw set gradient_decay"
        if self.solver not in {"adam", "adamw"} and self.gradient_decay is not None:
            return f"gradient_decay is for adam and adamw, not for {self.solver}"
        if self.solver in {"sgdm", "lbfgs"} and self.squared_gradient_decay is not None:
            return f"squared_gradient_decay is for adam, adamw and rmsprop, not for {self.solver}"
        return None

    def _loop_problem(self) -> str | None:
        """Return what does not go together besides."""
        if self.solver == "lbfgs" and self.mode == "windows":
            return (
                "lbfgs needs the whole training part in each iteration, and windows are a random "
                "choice: set mode to lanes or sequences, or another solver"
            )
        for (name, value), keys in FOR_ONE.items():
            for key in keys if getattr(self, name) != value else ():
                if getattr(self, key) != type(self).model_fields[key].default:
                    return f'{key} is for {name} = "{value}", not {getattr(self, name)!r}'
        if self.validate_every is not None and self.validation_frequency is not None:
            return "validate_every counts epochs and validation_frequency iterations: set one"
        return None

    @property
    def rate(self) -> float:
        """The learning rate, that of the solver where none is set."""
        return LEARNING_RATES[self.solver] if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        """The factor of L2, or with adamw of the decay beside the gradient."""
        given = self.weight_decay if self.solver == "adamw" else self.l2
        return L2 if given is None else given

    @property
    def squares_decay(self) -> float:
        """The decay factor of the mean of squared gradients."""
        default = 0.9 if self.solver == "rmsprop" else 0.999
        return default if self.squared_gradient_decay is None else self.squared_gradient_decay

    @property
    def iterations_max(self) -> int | None:
        """Steps of the solver at most; None: no limit."""
        default = MAX_ITERATIONS_OF_LBFGS if self.solver == "lbfgs" else None
        return default if self.max_iterations is None else self.max_iterations
