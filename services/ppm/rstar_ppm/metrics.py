"""The Prometheus metrics of the PPM service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

BATCH_ROWS = Histogram(
    "rstar_ppm_batch_rows", "Packed rows of one forward pass.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
SCORED = Counter("rstar_ppm_scored", "Candidates scored.")
QUEUED = Gauge("rstar_ppm_queued_candidates", "Candidates that wait for the model.")
QUEUED_TOKENS = Gauge("rstar_ppm_queued_tokens", "Tokens of the calls that wait: of their prefixes and candidates.")
SECONDS = Histogram(
    "rstar_ppm_score_seconds",
    "Time from a call's arrival to its answer.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
FAILED_BATCHES = Counter("rstar_ppm_failed_batches", "Batches that ended with an error; their calls failed.")
