"""The operator under many rounds at once: ``python -m benchmarks.operator [--rounds 200] [--json]``.

Rounds of number 1, created together on a real control plane with the stock training-operator; pods are scripted and take a
second per stage. Reported are the operator's API requests per round by verb and kind (from the API server's audit log), the
duration of its passes, the time from a child's end to the status that reports it (both observed on the watches of another
client), and the CPU time and memory of the operator.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Kubelet
from rstar_testbed.kubelet.api import Api

from rstar.cluster.api import PODS, PYTORCH_JOBS, ROUNDS, Kind
from rstar.cluster.names import ATTEMPT, ROUND, STAGE
from tests.support.cluster.operators import SETTINGS
from tests.support.cluster.rounds import (
    ENDED,
    admin_client,
    all_succeed,
    install_crds,
    install_prerequisites,
    round_body,
    wait_for_round,
)

NAMESPACE: Final = "bench"
USER: Final = "bench-operator"
POD_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 7200.0
WARM_UP: Final = "warm-up"

_SPAWN: Final = multiprocessing.get_context("spawn")
Key = tuple[str, str]
"""A round's name and a stage."""


@dataclass
class Observations:
    """When another client first saw each event: the end of stages' pods and jobs, the status that reports it, the end of rounds."""

    pods: dict[Key, float] = field(default_factory=dict)
    jobs: dict[Key, float] = field(default_factory=dict)
    reported: dict[Key, float] = field(default_factory=dict)
    rounds: dict[str, float] = field(default_factory=dict)

    def update(self, kind: Kind, name: str, body: dict[str, Any]) -> None:
        """Record the state of a round, or of an attempt's job or pod."""
        now, status = time.perf_counter(), body.get("status", {})
        if kind == ROUNDS:
            for attempt in status.get("attempts", []):
                if "finishedAt" in attempt:
                    self.reported.setdefault((name, attempt["stage"]), now)
            if status.get("phase") in ENDED:
                self.rounds.setdefault(name, now)
            return
        key = name, body["metadata"]["labels"][STAGE]
        conditions = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
        if kind == PODS and status.get("phase") == "Succeeded":
            self.pods.setdefault(key, now)
        elif kind == PYTORCH_JOBS and "Succeeded" in conditions:
            self.jobs.setdefault(key, now)


class Observer:
    """Watches a namespace in a thread."""

    def __init__(self, kubeconfig: Path) -> None:
        self.seen = Observations()
        self._kubeconfig = kubeconfig
        threading.Thread(target=lambda: asyncio.run(self._watch()), daemon=True).start()

    async def _watch(self) -> None:
        async with Api(self._kubeconfig) as api:
            await asyncio.gather(*(self._follow(api, kind) for kind in (ROUNDS, PYTORCH_JOBS, PODS)))

    async def _follow(self, api: Api, kind: Kind) -> None:
        async for what, body in api.watch(kind.path(NAMESPACE)):
            labels = body["metadata"].get("labels", {})
            name = body["metadata"]["name"] if kind == ROUNDS else labels.get(ROUND) if ATTEMPT in labels else None
            if what != "DELETED" and name is not None and name != WARM_UP:
                self.seen.update(kind, name, body)


def _run_kubelet(kubeconfig: Path, ready: Event, stop: Event) -> None:
    with Kubelet(kubeconfig, all_succeed(POD_SECONDS), namespace=NAMESPACE):
        ready.set()
        stop.wait()


@contextmanager
def scripted_pods(kubeconfig: Path) -> Iterator[None]:
    """Run the test kubelet in a process of its own, so that it does not slow down the measurement."""
    ready, stop = _SPAWN.Event(), _SPAWN.Event()
    process = _SPAWN.Process(target=_run_kubelet, args=(kubeconfig, ready, stop), daemon=True)
    process.start()
    ready.wait()
    try:
        yield
    finally:
        stop.set()
        process.join()


def requests(bed: Testbed) -> Counter[tuple[str, str]]:
    """Count the operator's requests that were answered so far, by verb and kind."""
    counted: Counter[tuple[str, str]] = Counter()
    with (bed.folder / "logs/audit.jsonl").open() as lines:
        for line in lines:
            if f'"{USER}"' not in line or not line.endswith("\n"):
                continue
            event = json.loads(line)
            if event["stage"] == "ResponseComplete":
                target = event.get("objectRef", {})
                kind = "/".join(filter(None, (target.get("resource"), target.get("subresource"))))
                counted[event["verb"], kind or event["requestURI"]] += 1
    return counted


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """Return the peak resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def percentiles(values: list[float]) -> dict[str, float]:
    """Return median and 99th percentile."""
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    return {"p50": cuts[49], "p99": cuts[98]}


def latencies(begin: dict[Key, float], end: dict[Key, float]) -> dict[str, float]:
    """Return percentiles of the milliseconds between two observations of the same stage, at least 0."""
    return percentiles([max(end[key] - begin[key], 0.0) * 1e3 for key in begin.keys() & end.keys()])


def measure(bed: Testbed, scratch: Path, rounds: int, workers: int) -> dict[str, Any]:
    """Run the rounds: about two seconds each on two cores, limited by the API server."""
    install_crds(bed)
    bed.kubectl("create", "namespace", NAMESPACE)
    install_prerequisites(bed, NAMESPACE)
    config, figures = scratch / "operator.yaml", scratch / "figures.json"
    config.write_text(yaml.safe_dump({**SETTINGS, "workers": workers}))
    cluster = admin_client(bed)
    environment = {**os.environ, "KUBECONFIG": str(bed.user_kubeconfig(USER, ("system:masters",)))}
    command = [sys.executable, "-m", "benchmarks.operator_process", str(config), NAMESPACE, str(figures)]
    with scripted_pods(bed.kubeconfig), subprocess.Popen(command, env=environment) as operator:
        try:
            cluster.create(ROUNDS, NAMESPACE, round_body(WARM_UP))
            wait_for_round(cluster, NAMESPACE, WARM_UP, seconds=TIMEOUT_SECONDS)
            observer = Observer(bed.kubeconfig)
            before, cpu, start = requests(bed), cpu_seconds(operator.pid), time.perf_counter()
            for number in range(rounds):
                cluster.create(ROUNDS, NAMESPACE, round_body(f"r{number:04}"))
            while (ended := len(observer.seen.rounds)) < rounds:
                time.sleep(0.2)
                if time.perf_counter() > start + TIMEOUT_SECONDS:
                    raise RuntimeError(f"{ended} of {rounds} rounds ended in {TIMEOUT_SECONDS:.0f} s")
            time.sleep(3)  # The last services are deleted.
            made = requests(bed) - before
            usage = {"cpu_s": cpu_seconds(operator.pid) - cpu, "peak_mib": peak_mib(operator.pid)}
        finally:
            operator.terminate()
    return figures_of(observer.seen, made, usage, json.loads(figures.read_text()), start, rounds)


def figures_of(
    seen: Observations,
    made: Counter[tuple[str, str]],
    usage: dict[str, float],
    passes: dict[str, Any],
    start: float,
    rounds: int,
) -> dict[str, Any]:
    """Return the measurements as plain data."""
    by_kind = {f"{verb} {kind}": count / rounds for (verb, kind), count in sorted(made.items())}
    pod_reads = sum(count for (verb, kind), count in made.items() if kind == "pods" and verb in {"get", "list"})
    total = max(seen.rounds.values()) - start
    return {
        "rounds": rounds,
        "total_s": total,
        "requests_per_round": sum(made.values()) / rounds,
        "requests_per_round_by_kind": by_kind,
        "pod_reads_per_stage_pod": pod_reads / len(seen.pods),
        "passes_per_round": (len(passes["all"]) + passes["outdated"]) / (rounds + 1),
        "outdated_passes_per_round": passes["outdated"] / (rounds + 1),
        "pass_ms": percentiles(passes["all"]),
        "idle_pass_ms": percentiles(passes["idle"]),
        "job_end_to_status_ms": latencies(seen.jobs, seen.reported),
        "pod_end_to_status_ms": latencies(seen.pods, seen.reported),
        "cpu_s_per_round": usage["cpu_s"] / rounds,
        "cpu_cores": usage["cpu_s"] / total,
        "peak_memory_mib": usage["peak_mib"],
    }


def _rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from ((f"{name}: {key}", text) for key, text in _rows(value))
        else:
            yield name, f"{value:,.2f}" if isinstance(value, float) else str(value)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that start at once.")] = 200,
    workers: Annotated[int, typer.Option(min=1, help="Concurrent passes of the operator.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the operator."""
    with tempfile.TemporaryDirectory() as scratch, Testbed.start(Path(scratch) / "bed", minio=False) as bed:
        figures = measure(bed, Path(scratch), rounds, workers)
    if as_json:
        print(json.dumps(figures))
        return
    table = Table("what", "figure")
    for row in _rows(figures):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
