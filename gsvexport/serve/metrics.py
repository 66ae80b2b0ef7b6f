"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
MEDIA = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one server, in a registry of their own. Labels are ids of voices and our own words alone."""

    def __init__(self) -> None:
        self._registry = one = CollectorRegistry()
        self.requests = Counter("gsvexport_requests", "Answers.", ("path", "status"), registry=one)
        self.first = Histogram("gsvexport_first_sound_seconds", "To the first sound.", buckets=_SECONDS, registry=one)
        self.total = Histogram("gsvexport_speech_seconds", "To the last sound.", buckets=_SECONDS, registry=one)
        self.sound = Counter("gsvexport_sound_seconds", "Sound that was sent.", ("voice",), registry=one)
        self.left = Counter("gsvexport_left", "Callers who left before the end.", registry=one)
        self.loads = Histogram("gsvexport_load_seconds", "Opening a voice.", buckets=_SECONDS, registry=one)
        self.closed = Counter("gsvexport_voices_closed", "Voices that made room for others.", registry=one)
        self.open = Gauge("gsvexport_voices_open", "Open voices.", registry=one)
        self.active = Gauge("gsvexport_active", "Requests that are being answered.", registry=one)
        self.waiting = Gauge("gsvexport_waiting", "Callers who wait for a turn.", registry=one)
        self.grown = Gauge("gsvexport_memory_grown_bytes", "Resident memory beyond the start's.", registry=one)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
