"""Rounds from beginning to end on a real API server, under the chart's operator: what it makes, and what it tells."""

from __future__ import annotations

from rstar_testbed.kubelet import Run

from rstar.cluster.api import CONFIG_MAPS, DEPLOYMENTS, PODS, PYTORCH_JOBS, SERVICES
from rstar.rounds.observed import STAGES
from tests.cluster.lab import Lab


def test_a_round_goes_through_and_tells_each_step_once(lab: Lab) -> None:
    lab.submit("r1")
    status = lab.succeeds("r1")
    assert [stage.state for stage in status.stages] == ["done"] * 5
    assert [(r.stage, r.number, r.state) for r in status.attempts] == [(s.value, 1, "succeeded") for s in STAGES]
    lab.becomes(lambda: not lab.of(DEPLOYMENTS, "r1"), "no services of a round that has ended")
    assert lab.of(SERVICES, "r1") == []
    assert lab.jobs("r1") == sorted(f"r1-{stage}-1" for stage in STAGES)
    assert lab.names(CONFIG_MAPS, "r1") == lab.jobs("r1")
    lab.released("r1")
    told = [reason for reason, _ in lab.events("r1")]
    once = ["StageDone"] * 5
    assert sorted(r for r in told if r in {"StageDone", "AllStagesDone"}) == ["AllStagesDone", *once]
    assert len(set(lab.events("r1"))) == len(told)
    described = lab.kubectl("describe", "er", "r1")
    for stage in STAGES:
        assert described.count(f"attempt 1 of stage {stage} is done") == 1
    columns = lab.columns("r1")
    assert columns | {"AGE": ""} == {
        "NAME": "r1", "ROUND": "1", "STAGE": "", "PROGRESS": "", "SOLVED %": "70.0", "READY": "True",
        "REASON": "AllStagesDone", "AGE": "",
    }  # fmt: skip
    assert lab.columns("r1", "-o", "wide")["MESSAGE"] == "round r1 is complete"
