"""From any state that a round can reach, passes reach a fixpoint: a pass that writes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rstar.cluster.api import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    PODS,
    PYTORCH_JOBS,
    ROUNDS,
    SCALED_OBJECTS,
    SERVICES,
)
from tests.support.operator.driving import WITH_KEDA, Operator, run_to_end, simulation
from tests.support.operator.simulated import Controllers, SimulatedCluster, round_body

EVENT_KINDS = [
    "run",
    "succeed",
    "succeed",
    "succeed",
    "oom",
    "hollow",
    "refuse",
    "ready",
    "ready",
    "ready",
    "unready",
    "settle",
    "settle",
    "time",
    "long-time",
    "delete-job",
    "delete-deployment",
    "delete-service",
    "delete-progress",
    "suspend",
    "resume",
    "resize",
    "scale-by-load",
    "scale-by-tokens",
    "delete-autoscaler",
    "delete-scaled-object",
    "queue",
]


def apply_event(cluster: SimulatedCluster, controllers: Controllers, what: str, which: int) -> None:
    """Apply one event: by a user, a pod or the cluster."""
    jobs = controllers.live_jobs()
    job = jobs[which % len(jobs)] if jobs else None
    scaling = {"minReplicas": 1, "maxReplicas": 2 + which}
    tokens = scaling | {"queuedTokensPerReplica": 1000 * (1 + which)}
    edits: dict[str, dict[str, Any]] = {
        "suspend": {"suspend": True},
        "resume": {"suspend": False},
        "resize": {"services": {"policy": {"replicas": 1 + which}}},
        "scale-by-load": {"services": {"policy": {"autoscaling": scaling}}},
        "scale-by-tokens": {"services": {"policy": {"autoscaling": tokens}, "ppm": {"autoscaling": scaling}}},
        "queue": {"cluster": {"queue": "gpus"}},
    }
    ends = {"oom": (137, "", "OOMKilled"), "hollow": (0, "", ""), "refuse": (2, '{"error":"no","exit_code":2}', "")}
    kinds = {
        "delete-job": PYTORCH_JOBS,
        "delete-deployment": DEPLOYMENTS,
        "delete-service": SERVICES,
        "delete-progress": CONFIG_MAPS,
        "delete-autoscaler": AUTOSCALERS,
        "delete-scaled-object": SCALED_OBJECTS,
    }
    if what in edits:
        cluster.edit("r1", **edits[what])
    elif what in kinds:
        names = sorted(name for kind, name in cluster.objects if kind == kinds[what] and name.startswith("r1-"))
        if names:
            cluster.remove(kinds[what], names[which % len(names)])
    elif what in {"time", "long-time"}:
        cluster.now += timedelta(seconds=(3 if what == "time" else 300) * (1 + which))
    elif what == "settle":
        cluster.settle()
    elif what == "ready":
        controllers.ready()
    elif what == "unready":
        for (kind, name), body in cluster.objects.items():
            if kind == DEPLOYMENTS:
                body["status"] = {}
                cluster.touch(kind, name)
    elif job is not None:
        if what == "run":
            controllers.start(job)
        elif what == "succeed":
            controllers.succeed(job)
        elif what in ends:
            controllers.finish(job, *ends[what])


def check(cluster: SimulatedCluster, controllers: Controllers, operator: Operator) -> None:
    """Check the invariants of every fixpoint."""
    live = controllers.live_jobs()
    assert len(live) <= 1, "never two attempts at once"
    status = operator.status()
    counted: dict[str, int] = {}
    for attempt in status.attempts:
        if attempt.finished_at and attempt.state == "failed" and attempt.ending in {None, "deadline", "unscheduled"}:
            counted[attempt.stage] = counted.get(attempt.stage, 0) + 1
    assert all(failures <= 3 for failures in counted.values())
    names = [(a.stage, a.number) for a in status.attempts]
    assert len(names) == len(set(names))
    for job in live:
        reports = {b["metadata"]["name"] for (kind, _), b in cluster.objects.items() if kind == CONFIG_MAPS}
        assert job["metadata"]["name"] in reports, "every attempt has a ConfigMap for its progress"


EVENTS = st.lists(st.tuples(st.sampled_from(EVENT_KINDS), st.integers(0, 3)), max_size=50)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 14))
def test_from_any_reachable_state_passes_reach_a_fixpoint_and_the_round_ends(
    events: list[tuple[str, int]], turns_before: int
) -> None:
    cluster, controllers, operator = simulation(round_body(), configuration=WITH_KEDA)
    for _ in range(turns_before):
        operator.settle()
        controllers.advance()
    for what, which in events:
        operator.settle()
        check(cluster, controllers, operator)
        apply_event(cluster, controllers, what, which)
    operator.settle()
    cluster.edit("r1", suspend=False)
    run_to_end(operator, controllers, turns=80)
    cluster.settle()
    operator.settle()
    assert not controllers.live_jobs()
    compute = {DEPLOYMENTS, AUTOSCALERS, SCALED_OBJECTS}
    assert not [name for (kind, name) in cluster.objects if kind in compute and name.startswith("r1-")]


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 14))
def test_a_suspended_round_holds_no_compute_and_is_a_fixpoint(events: list[tuple[str, int]], turns_before: int) -> None:
    cluster, controllers, operator = simulation(round_body(), configuration=WITH_KEDA)
    for _ in range(turns_before):
        operator.settle()
        controllers.advance()
    for what, which in events:
        operator.settle()
        apply_event(cluster, controllers, what, which)
    cluster.edit("r1", suspend=True)
    for _ in range(3):
        operator.settle()
        cluster.settle()
        cluster.now += timedelta(seconds=1)
    operator.settle()
    held = {(kind, name) for kind, name in cluster.objects if name.startswith("r1-") and kind not in {PODS}}
    running = {name for kind, name in held if kind == PYTORCH_JOBS} & {
        j["metadata"]["name"] for j in controllers.live_jobs()
    }
    assert not running
    assert not {name for kind, name in held if kind in {DEPLOYMENTS, SERVICES, AUTOSCALERS, SCALED_OBJECTS}}
    assert operator.status().phase in {"Suspended", "Failed", "Succeeded"}
    version = cluster.objects[ROUNDS, "r1"]["metadata"]["resourceVersion"]
    before = cluster.writes
    for _ in range(3):
        assert operator.one_pass() == 0
    assert cluster.writes == before
    assert cluster.objects[ROUNDS, "r1"]["metadata"]["resourceVersion"] == version
