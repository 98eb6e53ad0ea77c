"""`--state-in` and `--state-out` of `forecast predict`: scoring that goes on where it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:  # help does not need them
    from forecastd.artifact import Artifact
    from forecastd.data.store import Store
    from forecastd.scoring.predict import Report, Scored

StateInOption = Annotated[
    Path | None, typer.Option(help="Go on from the states in this file (.safetensors).")
]
StateOutOption = Annotated[
    Path | None, typer.Option(help="Keep the states after the last rows in this file.")
]


class States(NamedTuple):
    """Where the states come from and where they go; neither: scoring starts afresh."""

    source: Path | None
    target: Path | None

    def __bool__(self) -> bool:
        return self.source is not None or self.target is not None

    def alone(self, otherwise: bool) -> States:
        """Return itself. Raises UserError for another ending, or beside a loop or dropout."""
        from forecastd.errors import UserError
        from forecastd.runtime.state_file import is_state_file

        if self and otherwise:
            message = "--state-in and --state-out carry states of true values, nothing dropped"
            raise UserError(message, hint="leave --closed-loop and --dropout out")
        for path in self:
            if path is not None and not is_state_file(path):
                message = f"{path} is no name for a file of states"
                raise UserError(message, hint="end it with .safetensors")
        return self

    def predict(
        self, trained: Artifact, store: Store, output: Path, *, last: bool, report: Report
    ) -> Scored:
        """Write what the model says from the states that come in; then keep those after it."""
        from forecast_cli.output import note
        from forecastd.runtime.state_file import save_states, states_for
        from forecastd.scoring.continued import predict_on, state_shapes

        before = None
        if self.source is not None:
            shapes = state_shapes(trained.network)
            before = states_for(self.source, trained.digest, shapes)
        made = predict_on(trained, store, output, before, last=last, report=report)
        if self.target is not None:
            save_states(self.target, made.states)
        if made.passed_over:
            note(f"{made.passed_over:,} rows were not newer than the states, and passed over")
        return made.scored
