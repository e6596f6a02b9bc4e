"""The executor's Prometheus metrics, in one place; the slots, the executor and the gRPC service set them."""

from __future__ import annotations

import contextlib

from prometheus_client import Counter, Gauge, Histogram

from rstar.interfaces import ExecutionStatus
from rstar_executor.server.warden_client import BatchStats

BUSY = Gauge("rstar_executor_busy_slots", "Slots that run a batch.")
QUEUED = Gauge("rstar_executor_queued_batches", "Batches that wait for a slot.")
SLOTS = Gauge("rstar_executor_slots", "Batches that can run at once.")
WARDENS = Counter("rstar_executor_wardens_started", "Wardens started.")
RESUMED = Counter("rstar_executor_resumed", "Programs that continued from a snapshot.")
CACHE_HITS = Counter("rstar_executor_cache_hits", "Programs answered from the cache.")
SECONDS = Histogram(
    "rstar_executor_program_seconds",
    "Time from a program's fork to the end of its last process.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
CALL_SECONDS = Histogram(
    "rstar_executor_execute_seconds",
    "Time from a call's arrival to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)

HTTP_REQUESTS = Counter(
    "rstar_executor_http_requests", "Answers over HTTP, by code; left: the client was gone before the answer.", ["code"]
)

_CANARY = Counter(
    "rstar_executor_canary_programs", "Programs run a second time, by whether the results were the same.", ["end"]
)
CANARY_SAME, CANARY_DIFFERENCES = _CANARY.labels("same"), _CANARY.labels("different")

_PROGRAMS = Counter("rstar_executor_programs", "Programs answered, by status.", ["status"])
PROGRAMS = {status: _PROGRAMS.labels(status.value) for status in ExecutionStatus}

_SNAPSHOTS = Gauge("rstar_executor_snapshots", "Snapshots, by warden.", ["warden"])
_SNAPSHOT_BYTES = Gauge("rstar_executor_snapshot_bytes", "Bytes of memory of all snapshots, by warden.", ["warden"])


def record_batch(warden: int, stats: BatchStats) -> None:
    """Record what a warden reported with a batch."""
    RESUMED.inc(stats.resumed)
    _SNAPSHOTS.labels(warden).set(stats.snapshots)
    _SNAPSHOT_BYTES.labels(warden).set(stats.snapshot_bytes)


def remove_warden(warden: int) -> None:
    """Remove the series of a warden that has ended."""
    for gauge in (_SNAPSHOTS, _SNAPSHOT_BYTES):
        with contextlib.suppress(KeyError):
            gauge.remove(warden)
