"""The Prometheus metrics of the policy service."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

BATCH_ROWS = Histogram(
    "rstar_policy_batch_rows", "Rows of one decoding step.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
)
TOKENS = Counter("rstar_policy_tokens", "Tokens generated for candidates.")
PROMPT_TOKENS = Counter("rstar_policy_prompt_tokens", "Tokens of prompts (engine vllm).")
CACHED_TOKENS = Counter(
    "rstar_policy_cached_prompt_tokens", "Those of them that were in the prefix cache (engine vllm)."
)
QUEUED = Gauge("rstar_policy_queued_candidates", "Candidates that wait for free rows.")
QUEUED_TOKENS = Gauge(
    "rstar_policy_queued_tokens",
    "Tokens of the calls that wait: of their prompts, and what their candidates may generate.",
)
RUNNING = Gauge("rstar_policy_running_candidates", "Candidates that are being generated (engine vllm).")
SECONDS = Histogram(
    "rstar_policy_propose_seconds",
    "Time from a call's arrival to its answer.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
FAILED_BATCHES = Counter("rstar_policy_failed_batches", "Batches that ended with an error; their calls failed.")
ENDPOINT_RETRIES = Counter(
    "rstar_policy_endpoint_retries", "Requests to an endpoint that were sent again after a failure."
)
