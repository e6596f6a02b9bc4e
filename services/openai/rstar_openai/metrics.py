"""Prometheus metrics of the endpoint. A label names a key or a status, never a question."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ACTIVE: Final = Gauge("rstar_openai_active", "Searches in progress for requests.")
QUEUED: Final = Gauge("rstar_openai_queued", "Requests that wait for a search.")
REQUESTS: Final = Counter(
    "rstar_openai_requests", "Chat completions ended, by HTTP status; 499: the client left.", ["status"]
)
SECONDS: Final = Histogram(
    "rstar_openai_request_seconds",
    "Duration of an answered chat completion, the queue included.",
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000),
)
TOKENS: Final = Counter("rstar_openai_generated_tokens", "Tokens generated for requests, by name of the key.", ["key"])
