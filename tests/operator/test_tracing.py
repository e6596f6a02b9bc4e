"""The operator makes the stages of a round part of its trace, and records the span of a round that has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rstar_operator.children.attempt import attempt_pods
from rstar_operator.children.identity import Owner
from rstar_operator.configuration import Configuration, ConfigurationError, load_configuration

from rstar.rounds.observed import Stage, StartStage
from rstar.rounds.spec import EvolutionRound
from rstar.rpc import tracing
from rstar.rpc.spans import round_trace
from tests.support.operator.driving import CONFIGURATION, run_to_end, simulation
from tests.support.operator.simulated import round_body
from tests.support.rpc.collector import collector

ENDPOINT = {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://tempo:4317"}
ITEM = {key: value for key, value in round_body().items() if key in {"apiVersion", "kind", "spec"}}
OWNER = Owner(EvolutionRound.model_validate({**ITEM, "metadata": {"name": "r1"}}), "lab", "5b4e3f0a")


def variables(configuration: Configuration, stage: Stage = Stage.SELECT, attempt: int = 1) -> dict[str, str]:
    pods = attempt_pods(OWNER, configuration, StartStage(stage, attempt, ()))
    return {each["name"]: each.get("value", "") for each in pods.template["spec"]["containers"][0]["env"]}


def test_every_attempt_of_a_round_is_in_the_trace_of_its_round() -> None:
    traced = CONFIGURATION.model_copy(update={"extra_env": (ENDPOINT,)})
    found = variables(traced)
    assert found["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://tempo:4317"
    assert found["TRACEPARENT"] == round_trace("5b4e3f0a").traceparent
    assert found["TRACEPARENT"] == variables(traced, Stage.EVALUATE, 3)["TRACEPARENT"]


def test_the_address_of_the_collector_may_come_from_a_secret() -> None:
    secret = {"name": ENDPOINT["name"], "valueFrom": {"secretKeyRef": {"name": "tempo", "key": "url"}}}
    assert "TRACEPARENT" in variables(CONFIGURATION.model_copy(update={"extra_env": (secret,)}))


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ({"name": "HTTPS_PROXY", "value": "http://proxy"},),
        (ENDPOINT, {"name": "OTEL_SDK_DISABLED", "value": "true"}),
        ({"name": "WANDB_API_KEY", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}}},),
    ],
)
def test_pods_are_as_before_where_no_traces_are_asked_for(extra: tuple[dict[str, object], ...]) -> None:
    assert "TRACEPARENT" not in variables(CONFIGURATION.model_copy(update={"extra_env": extra}))


def test_a_round_that_has_ended_is_one_span_with_the_ids_that_its_stages_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as spans:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{spans.address}")
        tracing.start("operator")
        _, controllers, operator = simulation(round_body())
        run_to_end(operator, controllers)
        operator.settle()
        tracing.stop()
    [span] = spans.spans
    status = operator.status()
    expected = round_trace(operator.body()["metadata"]["uid"])
    assert (span.name, span.trace_id, span.span_id) == ("round", expected.trace_id, expected.span_id)
    assert span.attributes == {"round": "r1", "phase": status.phase}
    finished = [attempt.finished_at for attempt in status.attempts if attempt.finished_at]
    assert span.seconds >= (max(finished) - min(a.started_at for a in status.attempts)).total_seconds()


def test_variables_that_ask_for_another_protocol_are_refused_at_the_start(tmp_path: Path) -> None:
    plain = CONFIGURATION.model_dump(mode="json", by_alias=True)
    plain["extraEnv"] = [ENDPOINT, {"name": "OTEL_EXPORTER_OTLP_PROTOCOL", "value": "http/protobuf"}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(ConfigurationError, match=r"config.yaml: extraEnv: OTEL_EXPORTER_OTLP_PROTOCOL is 'http/protob"):
        load_configuration(tmp_path / "config.yaml")
