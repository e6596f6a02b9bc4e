"""Load on autoscaled executors of a real node: ``python -m benchmarks.autoscaling [--picture FILE] [--json]``.

Installs the chart's executors on a testbed with a node, with a HorizontalPodAutoscaler that gets its figures from
metrics-server. Two tenants send programs with known results, first not at all, then without a pause, then not at all, until
the autoscaler has taken its pods away. No call may fail and no result may be wrong.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import matplotlib as mpl
import typer
from rich.console import Console
from rich.table import Table
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import Builder, chart_options, report_to_stderr

from benchmarks.executor_load import TENANTS, Outcome, drive
from rstar.rpc.clients import ExecutorClient
from rstar.rpc.logs import configure_logs

NAMESPACE: Final = "load"
PORT: Final = 50053
LOOK_SECONDS: Final = 2.0
SCALE_DOWN_SECONDS: Final = 900.0
CHART: Final = Path(__file__).parents[1] / "charts/rstar"
VALUES: Final = (
    "operator.enabled=false,crds.enabled=false,rbac.aggregate=false,networkPolicies.enabled=false",
    "executor.slots=1,executor.maxMemoryMib=256,executor.tmpSize=128Mi,executor.snapshotMib=0,executor.cacheMib=0",
    "executor.resources.requests.cpu=50m,executor.resources.requests.memory=256Mi",
    "executor.resources.limits.cpu=null,executor.resources.limits.memory=2Gi",
)
"""Small executors without a cache, so that every program runs. A slot that is always busy with these programs uses some 100m CPU."""


@dataclass(frozen=True)
class Look:
    """One look: seconds since the start, executors that the autoscaler wants and that are ready, and the calls since the last."""

    seconds: float
    wanted: int
    ready: int
    calls: int
    median_wait_ms: float | None


class Executors:
    """The executors of the namespace as the API server knows them, read every :data:`LOOK_SECONDS`."""

    def __init__(self, bed: Testbed) -> None:
        self._bed = bed
        self.addresses: list[str] = []
        self.wanted = 0

    async def watch(self) -> None:
        """Keep the figures up to date until cancelled."""
        while True:
            await asyncio.to_thread(self.read)
            await asyncio.sleep(LOOK_SECONDS)

    def read(self) -> None:
        """Read the ready addresses and the wanted number."""
        slices = self._get("endpointslices", "-l", "kubernetes.io/service-name=rstar-executor")
        endpoints = [endpoint for each in slices["items"] for endpoint in each["endpoints"] or ()]
        self.addresses = [
            f"{endpoint['addresses'][0]}:{PORT}" for endpoint in endpoints if endpoint["conditions"].get("ready")
        ]
        self.wanted = self._get("deployment", "rstar-executor")["spec"]["replicas"]

    def _get(self, *words: str) -> Any:
        return json.loads(self._bed.kubectl("get", *words, "-n", NAMESPACE, "-o", "json"))


async def measure(bed: Testbed, idle: float, load: float, tasks: int, seed: int) -> tuple[Outcome, list[Look]]:
    """Run the three phases and return the calls and the looks."""
    outcome, looks, executors = Outcome(), list[Look](), Executors(bed)
    executors.read()
    start = time.monotonic()
    end_of_load = start + idle + load

    def over() -> bool:
        return time.monotonic() >= end_of_load

    async def look() -> None:
        counted = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            waits, outcome.waits = outcome.waits, []
            median = 1000 * statistics.median(waits) if waits else None
            seconds = time.monotonic() - start
            looks.append(Look(seconds, executors.wanted, len(executors.addresses), outcome.calls - counted, median))
            counted = outcome.calls

    watching = [asyncio.create_task(executors.watch()), asyncio.create_task(look())]
    clients = [ExecutorClient(lambda: executors.addresses, tenant=tenant) for tenant in TENANTS]
    try:
        await asyncio.sleep(idle)
        async with clients[0], clients[1], asyncio.TaskGroup() as group:
            for k in range(tasks):
                group.create_task(drive(clients[k % 2], f"task-{k}", seed, outcome, over))
        # The chart waits 300 s before it takes executors away, and takes them in steps.
        for _ in range(int(SCALE_DOWN_SECONDS / LOOK_SECONDS)):
            if executors.wanted == 1 and len(executors.addresses) == 1:
                break
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(idle)
    finally:
        for task in watching:
            task.cancel()
    return outcome, looks


def install(bed: Testbed, most: int) -> None:
    """Build and push the executor's image and install the executors; return when one is ready and metrics flow."""
    assert bed.node is not None
    builder = Builder(report_to_stderr)
    builder.build(["executor"])
    name = builder.push("executor", bed.node.registry.address, "load")
    bed.kubectl("create", "namespace", NAMESPACE)
    values = [f"--set={each}" for each in (*VALUES, f"executor.autoscaling.maxReplicas={most}")]
    bed.helm("install", "rstar", str(CHART), "-n", NAMESPACE, *chart_options({"executor": name}), *values)
    bed.kubectl("rollout", "status", "deployment/rstar-executor", "-n", NAMESPACE, "--timeout=600s")
    bed.kubectl("wait", "--for=condition=ScalingActive", "hpa/rstar-executor", "-n", NAMESPACE, "--timeout=300s")


def draw(looks: list[Look], picture: Path) -> None:
    """Draw executors, calls and waits over time."""
    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "autoscaling"
    minutes = [look.seconds / 60 for look in looks]
    figure, (pods, waits) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5), layout="constrained")
    pods.step(minutes, [look.wanted for look in looks], where="post", label="wanted by the autoscaler")
    pods.step(minutes, [look.ready for look in looks], where="post", label="ready")
    pods.set(ylabel="executors", ylim=(0, None))
    pods.legend(loc="lower center")
    called = [(minute, look) for minute, look in zip(minutes, looks, strict=True) if look.median_wait_ms is not None]
    waits.plot([minute for minute, _ in called], [look.median_wait_ms or 0 for _, look in called])
    waits.set(ylabel="median wait of a call, ms", xlabel="minutes", ylim=(0, None))
    figure.savefig(picture, format="svg", metadata={"Date": None})


def figures(outcome: Outcome, looks: list[Look]) -> dict[str, object]:
    """Return the figures of the report."""
    busy = [look for look in looks if look.median_wait_ms is not None]
    first, last = busy[: len(busy) // 5], busy[-len(busy) // 3 :]
    return {
        "calls": outcome.calls,
        "failed_calls": outcome.failed,
        "wrong_results": outcome.wrong,
        "executors_at_the_start": looks[0].ready,
        "most_executors": max(look.ready for look in looks),
        "executors_at_the_end": looks[-1].ready,
        "median_wait_ms_at_first": round(statistics.median(look.median_wait_ms or 0 for look in first), 1),
        "median_wait_ms_at_last": round(statistics.median(look.median_wait_ms or 0 for look in last), 1),
        "minutes": round(looks[-1].seconds / 60, 1),
        "faults": outcome.faults,
    }


def main(
    idle: Annotated[float, typer.Option(help="Seconds without load before and after.")] = 30.0,
    load: Annotated[float, typer.Option(help="Seconds of load.")] = 240.0,
    tasks: Annotated[int, typer.Option(min=2, help="Concurrent calls, half of them from each tenant.")] = 8,
    most: Annotated[int, typer.Option(min=2, help="Most executors.")] = 4,
    picture: Annotated[Path | None, typer.Option(help="Write the curves there, as SVG.")] = None,
    seed: int = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every look.")] = False,
) -> None:
    """Run the load on a real node; exit code 1 when a call failed, a result was wrong, or nothing was scaled."""
    configure_logs("load")
    with (
        tempfile.TemporaryDirectory() as folder,
        Testbed.start(Path(folder, "bed"), node=True, minio=False, training_operator=False) as bed,
    ):
        install(bed, most)
        outcome, looks = asyncio.run(measure(bed, idle, load, tasks, seed))
    report = figures(outcome, looks)
    if picture is not None:
        draw(looks, picture)
    if as_json:
        print(json.dumps({**report, "looks": [asdict(look) for look in looks]}))
    else:
        table = Table("figure", "value")
        for key, value in report.items():
            table.add_row(key.replace("_", " "), str(value))
        Console().print(table)
    scaled = max(look.ready for look in looks) > looks[-1].ready == 1
    raise typer.Exit(1 if outcome.failed or outcome.wrong or not scaled else 0)


if __name__ == "__main__":
    typer.run(main)
