"""Puts a daemon together from its settings; the only module that knows how models are made."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from forecastd.config import Loaded
from forecastd.connectors import SINKS, SOURCES
from forecastd.connectors.connections import Clock, Connections
from forecastd.connectors.contract import Sink, Source, Surroundings
from forecastd.connectors.socket import SocketSource, listen_tcp, listen_unix
from forecastd.daemon.control import Board, ControlServer
from forecastd.daemon.dead_letter import DeadLetter
from forecastd.daemon.emission import rows_at_once
from forecastd.daemon.events import Events
from forecastd.daemon.notify import Notifier
from forecastd.daemon.pipeline import Connectors, Pipeline, TickCounts, Timing, Translation
from forecastd.daemon.restart import FolderLock, carry_evicted, restore
from forecastd.daemon.settings import (
    DaemonSettings,
    ModelSettings,
    Places,
    load_settings,
)
from forecastd.daemon.supervisor import Reload, Supervisor, Tellers
from forecastd.errors import ArtifactError, UserError
from forecastd.features.vocabulary import Vocabulary
from forecastd.runtime.arena import BOOKKEEPING, ArenaSnapshot
from forecastd.runtime.evicted import Rows
from forecastd.runtime.opening import Stepping, Tell, open_model
from forecastd.runtime.stepper import Stepper
from forecastd.series import Signature

_RELOADABLE = {"model", "checkpoint", "emit"}


class Models(Protocol):
    """Where steppers come from."""

    def load(self, path: Path, settings: ModelSettings, tell: Tell) -> Stepper:
        """Return a stepper with a fresh arena of the artifact at `path`. Raises UserError."""
        ...

    def same_vocabulary(self, old: Stepper, new: Stepper) -> bool:
        """Whether categories have the same codes in both models."""
        ...


class ArtifactModels:
    """Steppers of trained artifacts."""

    def __init__(self) -> None:
        self._vocabularies: dict[str, Vocabulary] = {}

    def load(self, path: Path, settings: ModelSettings, tell: Tell) -> Stepper:
        """Read and try an artifact, and allocate its arena."""
        how = Stepping(settings.threads, settings.latency, settings.closed_loop)
        opened = open_model(path, settings.device, settings.series_max, tell, how)
        self._vocabularies[opened.artifact.digest] = opened.artifact.vocabulary
        return opened.stepper

    def same_vocabulary(self, old: Stepper, new: Stepper) -> bool:
        """Compare the vocabularies of two artifacts loaded here."""
        return self._vocabularies[old.digest] == self._vocabularies[new.digest]


@dataclass(frozen=True)
class Origin:
    """Where a configuration came from, so that a reload can read it again."""

    path: Path
    overrides: list[str]

    def load(self) -> Loaded[DaemonSettings]:
        """Read and validate it."""
        return load_settings(self.path, self.overrides)


def check(origin: Origin, models: Models, tell: Tell) -> Stepper:
    """Validate configuration and model without touching anything. Raises UserError."""
    loaded = origin.load()
    return _load(models, loaded, tell)


def run(
    origin: Origin, models: Models, *, once: bool = False, clock: Clock = time.monotonic
) -> TickCounts:
    """Be the daemon until a signal ends it; with `once`, until its sources have ended.

    Raises UserError when it cannot start, PeerError when it cannot go on, StoppedAtOnce.
    """
    loaded = origin.load()
    settings, places = loaded.settings, Places(loaded)
    with ExitStack() as stack:
        lock = FolderLock(places.lock, "state_dir")
        stack.callback(lock.close)
        events = Events(settings.log.format, settings.log.level)
        tellers = Tellers(events, Board(events.metrics), Notifier())
        stack.callback(tellers.notifier.close)
        stack.enter_context(_control(settings, places, tellers))
        tellers.board.not_ready = "loading the model"
        stepper = _load(models, loaded, events.model_remarked)
        events.model_loaded(stepper.digest, settings.model.device, stepper.arena.series_max)
        surroundings = Surroundings(
            places.folder,
            Connections(clock),
            clock,
            rows_at_once(settings.limits.batch_rows, stepper.signature),
            settings.limits.line_bytes_max,
        )
        pipeline = _open(stack, stepper, loaded, surroundings)
        _announce(events, pipeline)
        supervisor = Supervisor(
            pipeline,
            surroundings.connections,
            tellers,
            lambda old: _build_reload(origin, loaded, models, old, events.model_remarked),
            clock,
        )
        return supervisor.run(once=once, shutdown_limit_s=settings.limits.shutdown)


def _open(
    stack: ExitStack, stepper: Stepper, loaded: Loaded[DaemonSettings], surroundings: Surroundings
) -> Pipeline:
    """Restore states and open everything at the positions that belong to them."""
    settings, places = loaded.settings, Places(loaded)
    evict = settings.model.when_full == "evict"
    positions = restore(stepper, places.checkpoint, evict=evict)
    dead_letter = DeadLetter(places.dead_letter, settings.dead_letter.bytes_max)
    stack.callback(dead_letter.close)
    connectors = Connectors({}, {})
    stack.callback(connectors.close)
    for name, sink in settings.sinks.items():
        position = positions.get("sinks", {}).get(name)
        connectors.sinks[name] = _open_sink(name, sink, surroundings, position)
    for name, source in settings.sources.items():
        position = positions.get("sources", {}).get(name)
        connectors.sources[name] = _open_source(name, source, surroundings, position)
    pipeline = Pipeline(
        (stepper, _translation(stepper, settings.model)),
        connectors,
        dead_letter,
        places.checkpoint,
        Timing(settings.checkpoint.every, settings.emit),
        surroundings.clock,
    )
    pipeline.emission.resume(positions.get("emit", {}))
    return pipeline


def _open_source(name: str, settings: Any, surroundings: Surroundings, position: Any) -> Source:
    kind: Any = SOURCES[settings.type]
    source: Source = kind(name, settings, surroundings, position)
    return source


def _open_sink(name: str, settings: Any, surroundings: Surroundings, position: Any) -> Sink:
    kind: Any = SINKS[settings.type]
    sink: Sink = kind(name, settings, surroundings, position)
    return sink


def _load(models: Models, loaded: Loaded[DaemonSettings], tell: Tell) -> Stepper:
    model = loaded.settings.model
    stepper = models.load(Places(loaded).model, model, tell)
    if model.memory_max is not None and stepper.arena.limit_memory(model.memory_max):
        fitting = stepper.arena.series_max
        tell(f"memory_max holds {fitting:,} series, so series_max is {fitting:,}")
        if problem := loaded.settings.eviction_problem(fitting):
            raise UserError(problem, hint="raise model.memory_max, or lower limits.batch_rows")
    return stepper


def _translation(stepper: Stepper, settings: ModelSettings) -> Translation:
    return Translation.of(stepper, settings.unknown_columns, settings.time_unit)


@contextmanager
def _control(settings: DaemonSettings, places: Places, tellers: Tellers) -> Iterator[None]:
    """Serve HTTP within a block."""
    listeners: list[socket.socket] = []
    server: ControlServer | None = None
    try:
        listeners.append(listen_unix(places.api_socket, "api.socket"))
        if settings.api.listen != "off":
            listeners.append(listen_tcp(settings.api.listen, "api.listen"))
        server = ControlServer(tellers.board, listeners)
        tellers.events.control_listening([str(each.getsockname()) for each in listeners])
        yield
    finally:
        if server is not None:
            server.close()
        for listener in listeners:
            listener.close()
        if listeners:
            places.api_socket.unlink(missing_ok=True)


def _announce(events: Events, pipeline: Pipeline) -> None:
    connectors = pipeline.connectors
    for name, source in connectors.sources.items():
        if isinstance(source, SocketSource):
            events.source_listening(name, source.address)
    events.started(len(pipeline.stepper.arena), list(connectors.sources), list(connectors.sinks))


def _build_reload(
    origin: Origin, running: Loaded[DaemonSettings], models: Models, old: Stepper, tell: Tell
) -> Reload:
    """Read the configuration and the model again. Raises UserError; changes nothing."""
    loaded = origin.load()
    new = _load(models, loaded, tell)
    evict = loaded.settings.model.when_full == "evict"
    states = carry_states(old, new, models, Places(running).state_dir, evict=evict)
    before, after = running.settings.model_dump(), loaded.settings.model_dump()
    needs_restart = [key for key in after if key not in _RELOADABLE and after[key] != before[key]]
    return Reload(
        new,
        _translation(new, loaded.settings.model),
        Timing(loaded.settings.checkpoint.every, loaded.settings.emit),
        states,
        needs_restart,
    )


def _read_alike(one: Signature, other: Signature) -> bool:
    """Whether both read the same observations, however far ahead they forecast."""
    return replace(one, horizon=other.horizon, quantiles=other.quantiles) == other


def carry_states(old: Stepper, new: Stepper, models: Models, folder: Path, *, evict: bool) -> str:
    """Bring the states of one model into another; return in words what became of them.

    The same model keeps all. A model of equal layout, signature and categories keeps what the
    encoder remembers of each series (its scale and last values) and begins the rest anew: hidden
    states have a meaning for their own weights only. Any other model begins anew. The same holds
    for evicted series, whose new rows go to a new file in `folder`.
    """
    told, change = _carry_live(old, new, models)
    carry_evicted(old.arena, new.arena, folder, change, evict=evict)
    return told


def _carry_live(
    old: Stepper, new: Stepper, models: Models
) -> tuple[str, Callable[[Rows], Rows] | None]:
    """Return also what changes other rows in the same way; None: they begin anew."""
    snapshot = old.arena.view()
    if len(snapshot.keys) > new.arena.series_max:
        message = f"{len(snapshot.keys)} series are live, more than the new series_max"
        raise ArtifactError(message, hint=f"set series_max to {len(snapshot.keys)} or more")
    layout = new.arena.layout
    if layout != old.arena.layout or not _read_alike(old.signature, new.signature):
        return "begun anew: the model has another shape", None
    if new.digest == old.digest:
        new.arena.restore(snapshot)
        return "kept", lambda rows: rows
    if not models.same_vocabulary(old, new):
        return "begun anew: the model has other categories", None
    bookkeeping = {name for name, _ in BOOKKEEPING}
    names = layout.names or ()
    kept = [name for name in names if name.startswith("encoder.") or name in bookkeeping]
    copied = [*kept, *(["codes"] if "codes" in names else [])]

    def change(rows: Rows) -> Rows:
        return new.arena.begun_anew(rows, copied)

    new.arena.restore(ArenaSnapshot(snapshot.keys, change(snapshot.rows)))
    return f"kept for the encoder ({len(kept)} fields), begun anew for the network", change
