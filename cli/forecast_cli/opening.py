"""A trained model together with a data set, as the commands that score need them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help does not need them
    from forecastd.artifact import Artifact
    from forecastd.config import SplitSettings
    from forecastd.data.store import Store


@contextlib.contextmanager
def opened(
    model: Path,
    data: str,
    device: str = "cpu",
    *,
    split: bool = False,
    memory: str | None = None,
) -> Iterator[tuple[Artifact, Store]]:
    """Load a model and prepare a data set for it; the store is gone when the block ends.

    split: the rows will be split as those of the training were, so what that needs is read too.
    memory: for rows, as a person writes it. Raises UserError when either is unusable or they do
    not fit each other.
    """
    from forecast_cli.preparing import shown
    from forecastd import artifact
    from forecastd.data.for_model import store_for_model

    trained = artifact.load(model, device=device)
    column = split_of(trained).column if split else None
    also = () if column is None or column in trained.signature.static else (column,)
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        signature, max_gap = trained.signature, trained.max_gap
        target = Path(folder) / "store"
        with shown(memory) as how:
            store = store_for_model(signature, max_gap, data, target, also, how)
        yield trained, store


def split_of(trained: Artifact) -> SplitSettings:
    """Return how the data of a model was split. Raises ArtifactError where it does not tell."""
    from forecastd.config import SplitSettings
    from forecastd.errors import ArtifactError

    try:
        return SplitSettings.model_validate(trained.provenance["config"]["split"])
    except (LookupError, TypeError, ValueError) as error:
        message = "the model does not tell how its data was split"
        raise ArtifactError(message, hint="score all rows with --split all") from error
