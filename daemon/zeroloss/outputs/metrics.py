"""Prometheus metrics of one daemon, in a registry of their own."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info

from zeroloss.wire import LedgerTotals, PackageInfo

REMEMBERED_RUNS = 1024
"""The newest closed runs: they may go on, and are not counted twice then."""
RECORDING_STATES = ("off", "recording", "failed")
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)
_SPECTRA = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """Counters, gauges and histograms; all names begin with `zeroloss_` and carry their unit.

    Spectra are counted from the ledgers (`ledger`), so that metrics and ledger cannot disagree.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._lock = Lock()
        self._ledgers: dict[bytes, LedgerTotals] = {}
        # The most that was counted of a run: one that goes on later has a new ledger.
        self._counted: dict[bytes, dict[str, int]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"zeroloss_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"zeroloss_{name}", text, registry=registry)

        self._received = counter("spectra_received", "Spectra received, each counted once")
        self._processed = counter("spectra_processed", "Spectra that are on a map")
        self._rejected = counter("spectra_rejected", "Spectra that cannot be used", "reason")
        self._lost = counter("spectra_lost", "Spectra still missing when their run closed")
        self._duplicates = counter("spectra_duplicate", "Spectra that came more than once")
        self._masked = counter("channels_masked", "Invalid channels inside accepted spectra")
        self._announced_now = gauge("spectra_announced", "Spectra announced in the open runs")
        self._missed_now = gauge("spectra_missed", "Announced, not received, in the open runs")
        self._pending_now = gauge("spectra_pending", "Received, not yet mapped, in the open runs")
        self.runs_open = gauge("runs_open", "Runs whose map is not closed")

        self._unanswered = counter(
            "unanswered", "Spectra that a model gave no answer for", "package", "reason"
        )
        self._batches = counter("batches", "Batches run through a model", "package")
        self.model_swaps = counter(
            "model_swaps", "Model packages renewed or added while the daemon runs", "package"
        )
        self._batch_spectra = Histogram(
            "zeroloss_batch_spectra", "Spectra in a batch", buckets=_SPECTRA, registry=registry
        )
        self._stage = Histogram(
            "zeroloss_stage_seconds",
            "Time that a batch spends in a stage",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_bytes = gauge("queue_bytes", "Bytes of spectra waiting in memory")
        self.lag_seconds = gauge("lag_seconds", "Age of the newest mapped spectrum")
        self.mapped_rate = gauge("mapped_spectra_per_second", "Spectra mapped per second of late")

        self.malformed_messages = counter(
            "malformed_messages", "Messages of sources that could not be understood", "fault"
        )
        self.malformed_requests = counter(
            "malformed_requests", "Requests that could not be understood", "fault"
        )
        self.foreign_messages = counter("foreign_messages", "Messages of runs that nobody opened")
        self.late_blocks = counter(
            "late_blocks", "Blocks of spectra of runs that are closed or were refused"
        )
        self._published = counter("published_messages", "Messages published", "kind")
        self._published_bytes = counter("published_bytes", "Bytes published", "kind")
        self._replies = counter("replies", "Answers to requests", "kind")
        self._reply_bytes = counter("reply_bytes", "Bytes of answers to requests", "kind")
        self.replies_dropped = counter(
            "replies_dropped", "Answers not sent because their peer does not read"
        )

        self.recording_bytes = counter("recording_bytes", "Bytes written to recordings")
        self._recording = Enum(
            "zeroloss_recording",
            "Whether the stream is being recorded",
            states=list(RECORDING_STATES),
            registry=registry,
        )
        self._build = Info("zeroloss_build", "The running software", registry=registry)
        self._packages = Gauge(
            "zeroloss_package",
            "Model packages in use (always 1)",
            ("name", "version", "sha256", "provider", "precision", "range"),
            registry=registry,
        )

    def ledger(self, run: bytes, totals: LedgerTotals) -> None:
        """Count what is more in the ledger of a run than was ever told of it."""
        with self._lock:
            self._ledgers[run] = totals
            counted = self._counted.pop(run, {})
            self._counted[run] = counted
            _count(self._received, counted, "received", _came(totals))
            _count(self._processed, counted, "processed", totals.processed)
            for reason, count in totals.rejected.items():
                _count(self._rejected.labels(reason), counted, f"rejected: {reason}", count)
            _count(self._duplicates, counted, "duplicates", totals.duplicates)
            _count(self._masked, counted, "masked", totals.masked_channels)
            self._sum_up()

    def close_ledger(self, run: bytes, totals: LedgerTotals) -> None:
        """As `ledger`, and what is missing now is lost; the run may go on later."""
        self.ledger(run, totals)
        with self._lock:
            del self._ledgers[run]
            _count(self._lost, self._counted[run], "lost", totals.missed)
            closed = [key for key in self._counted if key not in self._ledgers]
            for key in closed[:-REMEMBERED_RUNS]:
                del self._counted[key]
            self._sum_up()

    def _sum_up(self) -> None:
        ledgers = self._ledgers.values()
        self._announced_now.set(sum(item.announced for item in ledgers))
        self._missed_now.set(sum(item.missed for item in ledgers))
        self._pending_now.set(sum(item.pending for item in ledgers))
        self.runs_open.set(len(ledgers))

    def batch(self, package: str, spectra: int, stages_s: Mapping[str, float]) -> None:
        """One batch of a package went through; seconds by stage (`wait`, `inference`, ...)."""
        self._batches.labels(package).inc()
        self._batch_spectra.observe(spectra)
        for stage, seconds in stages_s.items():
            self.stage(stage, seconds)

    def unanswered(self, package: str, reason: str, spectra: int) -> None:
        """So many more spectra that a package gave no answer for."""
        self._unanswered.labels(package, reason).inc(spectra)

    def stage(self, stage: str, seconds: float) -> None:
        """A batch or message spent so long in a stage."""
        self._stage.labels(stage).observe(seconds)

    def published(self, kind: str, nbytes: int) -> None:
        """One message went out to the subscribers."""
        self._published.labels(kind).inc()
        self._published_bytes.labels(kind).inc(nbytes)

    def replied(self, kind: str, nbytes: int) -> None:
        """One request was answered."""
        self._replies.labels(kind).inc()
        self._reply_bytes.labels(kind).inc(nbytes)

    def recording(self, state: str) -> None:
        """`off`, `recording` or `failed`."""
        self._recording.state(state)

    def build(self, software: str, config_sha256: str) -> None:
        """What runs, and with which configuration."""
        self._build.info({"software": software, "config_sha256": config_sha256})

    def package(self, info: PackageInfo) -> None:
        """A model package is in use."""
        self._packages.labels(
            info.name, info.version, info.sha256, info.provider, info.precision, info.range_name
        ).set(1)


def _came(totals: LedgerTotals) -> int:
    return totals.processed + totals.pending + sum(totals.rejected.values())


def _count(counter: Counter, counted: dict[str, int], what: str, value: int) -> None:
    """Add what `value` is above the highest that was counted before."""
    before = counted.get(what, 0)
    if value > before:
        counter.inc(value - before)
        counted[what] = value
