"""Every log line and every metric of the daemon, one function each.

Functions are called per batch or more rarely, never per observation. Labels never hold text that
a client chose.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from forecastd.daemon.log_lines import LogLines
from forecastd.daemon.pipeline import Committed, TickCounts

_STEP_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_BATCH_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class Events:
    """Logs and counts for one daemon; its registry is its own, so several can live side by side.

    log_format: "auto", "console" or "json". Methods are named after what happened.
    """

    def __init__(
        self, log_format: str = "auto", level: str = "info", stream: TextIO | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self._log = LogLines(log_format, level, stream or sys.stderr)
        self._make_flow_metrics()
        self._make_state_metrics()

    def _make_flow_metrics(self) -> None:
        registry = self.registry
        self._received = Counter(
            "forecastd_lines_received_total", "lines taken", ["source"], registry=registry
        )
        self._observations = Counter(
            "forecastd_observations_used_total", "observations stepped", registry=registry
        )
        self._rejected = Counter(
            "forecastd_lines_rejected_total", "lines not used", ["reason"], registry=registry
        )
        self._forecasts = Counter(
            "forecastd_forecasts_sent_total", "forecasts written", registry=registry
        )
        self._requested = Counter(
            "forecastd_forecasts_requested_total", "requests answered", registry=registry
        )
        self._filled = Counter(
            "forecastd_steps_filled_total", "steps for missing stamps", registry=registry
        )
        self._resets = Counter(
            "forecastd_series_resets_total", "series begun anew after a hole", registry=registry
        )
        self._step_s = Histogram(
            "forecastd_step_duration_seconds",
            "arithmetic of one tick",
            buckets=_STEP_BUCKETS_S,
            registry=registry,
        )
        self._batch = Histogram(
            "forecastd_batch_size", "lines per tick", buckets=_BATCH_BUCKETS, registry=registry
        )
        self._clients_closed = Counter(
            "forecastd_clients_closed_total", "clients sent away", ["reason"], registry=registry
        )
        self._clients = Gauge("forecastd_clients_connected", "clients", registry=registry)

    def _make_state_metrics(self) -> None:
        registry = self.registry
        self._series = Gauge("forecastd_state_series", "live series", registry=registry)
        self._series_max = Gauge("forecastd_state_series_max", "their limit", registry=registry)
        self._checkpoint_age_s = Gauge(
            "forecastd_checkpoint_age_seconds", "time since the last", registry=registry
        )
        self._checkpoint_size = Gauge(
            "forecastd_checkpoint_size_bytes", "size of the last", registry=registry
        )
        self._checkpoint_s = Gauge(
            "forecastd_checkpoint_duration_seconds", "time the last took", registry=registry
        )
        self._checkpoints = Counter(
            "forecastd_checkpoints_written_total", "checkpoints", registry=registry
        )
        self._reloads = Counter(
            "forecastd_config_reloads_total", "reloads", ["result"], registry=registry
        )
        self._reload_good = Gauge(
            "forecastd_config_last_reload_successful", "1: yes", registry=registry
        )
        self._model = Gauge(
            "forecastd_model_info", "the model in use", ["digest", "device"], registry=registry
        )

    def metrics(self) -> bytes:
        """Return all metrics in the Prometheus text format. May be called from any thread."""
        return generate_latest(self.registry)

    def model_loaded(self, digest: str, device: str, series_max: int) -> None:
        """A model is in use."""
        self._model.clear()
        self._model.labels(digest[:16], device).set(1)
        self._series_max.set(series_max)
        self._log.info("model loaded", digest=digest[:16], device=device)

    def model_remarked(self, remark: str) -> None:
        """There is something to know about how a model runs here."""
        self._log.warning("about the model", remark=remark)

    def started(self, series: int, sources: list[str], sinks: list[str]) -> None:
        """Everything is open; observations flow."""
        self._reload_good.set(1)
        self._series.set(series)
        self._log.info("started", series=series, sources=sources, sinks=sinks)

    def control_listening(self, places: list[str]) -> None:
        """Health, metrics and status can be asked for."""
        self._log.info("control listening", at=places)

    def source_listening(self, source: str, address: object) -> None:
        """Clients can connect to a source."""
        self._log.info("source listening", source=source, address=str(address))

    def ticked(self, counts: TickCounts, series: int) -> None:
        """A tick is done."""
        for source in counts.ended:
            self._log.info("source ended", source=source)
        self._forecasts.inc(counts.forecasts)
        if not counts.lines:
            return
        for source, lines in counts.received.items():
            self._received.labels(source).inc(lines)
        for reason, lines in counts.rejected.items():
            self._rejected.labels(reason).inc(lines)
        self._observations.inc(counts.observations)
        self._requested.inc(counts.requests)
        self._filled.inc(counts.filled)
        self._resets.inc(counts.resets)
        self._step_s.observe(counts.step_s)
        self._batch.observe(counts.lines)
        self._series.set(series)

    def first_rejects(self, examples: Mapping[str, Any]) -> None:
        """Lines were rejected for reasons not seen before in this life; later ones only count."""
        for reason, reject in examples.items():
            self._log.warning(
                "line rejected; more with this reason are only counted and kept",
                reason=reason,
                source=reject.source,
                detail=reject.detail,
            )

    def clients_counted(self, connected: int, closed: Mapping[str, int]) -> None:
        """Clients are connected; some were closed for a reason since the last call."""
        self._clients.set(connected)
        for reason, clients in closed.items():
            self._clients_closed.labels(reason).inc(clients)
            self._log.warning("clients closed", reason=reason, clients=clients)

    def committed(self, commit: Committed) -> None:
        """A checkpoint is durable."""
        self._checkpoints.inc()
        self._checkpoint_size.set(commit.size_bytes)
        self._checkpoint_s.set(commit.duration_s)
        self._log.debug("committed", size_bytes=commit.size_bytes, duration_s=commit.duration_s)

    def checkpoint_aged(self, age_s: float) -> None:
        """The newest checkpoint is so old."""
        self._checkpoint_age_s.set(age_s)

    def reloaded(self, states: str) -> None:
        """A new config and model are in use; `states` says what became of the states."""
        self._reloads.labels("applied").inc()
        self._reload_good.set(1)
        self._log.info("reloaded", states=states)

    def reload_needs_restart(self, tables: list[str]) -> None:
        """Parts of the new config take effect at the next start only."""
        self._log.warning("these tables take effect after a restart", tables=tables)

    def reload_refused(self, problem: str) -> None:
        """A new config or model cannot be used; the old one goes on."""
        self._reloads.labels("refused").inc()
        self._reload_good.set(0)
        self._log.error("reload refused, the old config and model stay", problem=problem)

    def stopping(self, signal_name: str) -> None:
        """A signal asked for an orderly end."""
        self._log.info("stopping", signal=signal_name)

    def drain_cut_short(self, limit_s: float) -> None:
        """What had arrived was not finished in time; it stays with the sources."""
        self._log.warning("shutdown limit reached before everything was processed", limit_s=limit_s)

    def stopped(self, counts: TickCounts) -> None:
        """The last commit is done."""
        self._log.info("stopped", observations=counts.observations, rejected=dict(counts.rejected))
