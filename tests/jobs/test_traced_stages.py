"""The span of a stage's attempt, as a collector gets it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rstar_jobs.errors import TerminatedError
from rstar_jobs.invocation import Invocation
from rstar_jobs.program import TERMINATED, run

from rstar.rounds.observed import Stage
from rstar.rpc import tracing
from tests.support.jobs.stage_workspace import StageWorkspace
from tests.support.rpc.collector import collector


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    tracing.stop()


@pytest.mark.parametrize(
    ("error", "code", "failed", "attributes"),
    [
        (TerminatedError("ended by SIGTERM"), TERMINATED, False, {"cancelled": True}),
        (ValueError("a fault"), 1, True, {}),
    ],
)
def test_a_stage_that_was_ended_is_cancelled_and_one_that_broke_has_failed(
    error: Exception,
    code: int,
    failed: bool,
    attributes: dict[str, bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(_: Invocation) -> None:
        raise error

    workspace = StageWorkspace(tmp_path)
    with collector() as spans:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{spans.address}")
        assert run(Stage.SELECT, work, workspace.arguments({"rollout": workspace.rolled_out()})) == code
    [span] = spans.named("stage select")
    assert span.failed is failed
    assert span.attributes.items() >= attributes.items()
    assert ("cancelled" in span.attributes) is bool(attributes)
