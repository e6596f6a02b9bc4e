"""What all stage programs share: they run their work once, write one result file, and end with one of these exit codes.

    0 done | 1 failed, may be tried again | 2 bad input, a retry cannot help | 143 ended by SIGTERM, resumable

The result file is also the pod's termination message: at most 4,096 bytes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from rstar.rounds.manifest import Manifest, canonical
from rstar.rounds.observed import BAD_INPUT, ManifestRef, Stage
from rstar.rounds.tracking import result_figures, tracker_faults
from rstar.rpc import tracing
from rstar.rpc.logs import configure_logs
from rstar.rpc.tls import CertificateError, TlsSettingsError
from rstar.store.atomic import atomic_write
from rstar.store.store import StoreError
from rstar_jobs.arguments import argument_parser, read_invocation
from rstar_jobs.errors import BadInputError, TerminatedError
from rstar_jobs.invocation import Invocation
from rstar_jobs.processes import is_leader
from rstar_jobs.progress import Progress, open_destination
from rstar_jobs.run_times import RunTimes
from rstar_jobs.trackers import open_trackers

RESULT_BYTES: Final = 4_096
TERMINATED: Final = 143

Work = Callable[[Invocation], tuple[ManifestRef, Manifest] | None]
"""Does a stage and returns its manifest; None in the processes that are not the leader."""


def run(stage: Stage, work: Work, arguments: Sequence[str] | None = None) -> int:
    """Run a stage program and return its exit code. Only process 0 of a distributed run reports."""
    options = argument_parser(stage).parse_args(arguments)
    leader = is_leader()
    configure_logs(f"stage-{stage}")
    _end_at_once_on_sigterm(options.result, leader)
    try:
        progress = Progress(open_destination(options.progress) if leader else None, stage)
        if leader:
            tracing.start(f"stage-{stage}", joins=True)
    except ValueError as error:
        return _fail(options.result, leader, BAD_INPUT, str(error))
    times = RunTimes(progress, writes=leader)
    code = _run(stage, work, options, leader, progress, times)
    times.end(finished=code == 0, worked=code != BAD_INPUT)
    progress.close()
    tracing.stop()
    return code


def _run(
    stage: Stage, work: Work, options: argparse.Namespace, leader: bool, progress: Progress, times: RunTimes
) -> int:
    try:
        invocation = read_invocation(options, stage, progress, times)
        if faults := list(tracker_faults(invocation.spec.trackers)):
            raise BadInputError("; ".join(faults))
        if leader and invocation.spec.trackers:
            progress.trackers = open_trackers(invocation.spec.trackers, invocation.store, invocation.round.name)
        with tracing.span(f"stage {stage}") as span:
            try:
                done = work(invocation)
            except TerminatedError:
                span.set(cancelled=True)
                span.end()  # before the error could mark it as failed
                raise
    except TerminatedError as error:
        return _fail(options.result, leader, TERMINATED, str(error))
    except (BadInputError, TlsSettingsError) as error:
        return _fail(options.result, leader, BAD_INPUT, str(error))
    except (StoreError, CertificateError) as error:
        return _fail(options.result, leader, 1, str(error))
    except Exception as error:
        traceback.print_exc()
        return _fail(options.result, leader, 1, _sentence(error))
    if leader and done is not None:
        ref, manifest = done
        if progress.trackers is not None:
            progress.trackers.log(result_figures(stage, manifest.metrics), invocation.spec.round)
        write_result(options.result, result_bytes(ref, manifest.metrics, manifest.code_version))
        structlog.get_logger().info("stage done", manifest=ref.key)
    return 0


def result_bytes(ref: ManifestRef, metrics: Mapping[str, Any], code_version: str) -> bytes:
    """Return the result file's bytes. The largest metrics are replaced by their names until it has 4,096 bytes."""
    kept, omitted = dict(metrics), list[str]()
    while True:
        shown = {**kept, "omitted": omitted} if omitted else kept
        data = canonical({"manifest": ref.key, "digest": ref.digest, "code_version": code_version, "metrics": shown})
        if len(data) <= RESULT_BYTES or not kept:
            return data
        largest = max(kept, key=lambda name: len(canonical({name: kept[name]})))
        omitted.append(largest)
        del kept[largest]


def write_result(path: Path, data: bytes) -> None:
    """Replace a small file so that a reader sees the old content or the new.

    In a folder that takes no second file, such as that of a pod's termination message, the file is written in place.
    """
    try:
        with atomic_write(path) as file:
            file.write(data)
    except OSError:
        path.write_bytes(data)


def _fail(result: Path, leader: bool, code: int, reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    if leader:
        write_result(result, canonical({"error": reason[:2_000], "exit_code": code}))
    return code


def _end_at_once_on_sigterm(result: Path, leader: bool) -> None:
    """Report SIGTERM and exit, unless the work installs a handler of its own.

    All writes are atomic and all work can be resumed. Without a handler a container's first process ignores SIGTERM.
    """

    def end(*_: object) -> None:
        try:
            _fail(result, leader, TERMINATED, "ended by SIGTERM; finished work is stored")
        finally:
            os._exit(TERMINATED)

    signal.signal(signal.SIGTERM, end)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
