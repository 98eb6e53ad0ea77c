"""A trained model together with a data set, as the commands that score need them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # help does not need them
    from forecastd.artifact import Artifact
    from forecastd.data.store import Store


@contextlib.contextmanager
def opened(model: Path, data: str, device: str = "cpu") -> Iterator[tuple[Artifact, Store]]:
    """Load a model and prepare a data set for it; the store is gone when the block ends.

    Raises UserError when either is unusable or they do not fit each other.
    """
    from forecastd import artifact
    from forecastd.data.for_model import store_for_model

    trained = artifact.load(model, device=device)
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        signature, max_gap = trained.signature, trained.max_gap
        yield trained, store_for_model(signature, max_gap, data, Path(folder) / "store")
