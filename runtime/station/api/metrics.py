"""What is counted, for Prometheus: numbers, routes and statuses, never what was asked."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The counts of one station.

    Args:
        waiting: answers that wait or are being made.
        memory: bytes that were planned for the loaded models.
    """

    def __init__(self, waiting: Callable[[], int], memory: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "medge_requests", "Requests that were answered.", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "medge_request_seconds", "Seconds until a request was answered.", ["route"], registry=registry
        )
        self.images = Counter("medge_images", "Images that an encoder has embedded.", registry=registry)
        self.tokens = Counter("medge_tokens", "Tokens of prompts and of answers.", ["of"], registry=registry)
        Gauge("medge_answers_waiting", "Answers that wait or are being made.", registry=registry).set_function(waiting)
        Gauge("medge_models_bytes", "Memory planned for the loaded models.", registry=registry).set_function(memory)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
