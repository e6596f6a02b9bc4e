"""The table of programs against the programs themselves: every command line that it builds is accepted."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rstar_jobs.arguments import argument_parser
from rstar_jobs.program import result_bytes

from rstar.prompt import PromptStyle
from rstar.rounds.observed import (
    BAD_INPUT,
    STAGE_INPUTS,
    STAGES,
    EndpointRef,
    ManifestRef,
    ModelRef,
    ServiceKind,
    ServiceRef,
    Stage,
    StageOutput,
    StartStage,
)
from rstar.rounds.programs import (
    SERVICE_PROGRAMS,
    STAGE_MODULES,
    ServicePlace,
    StagePlace,
    StageResult,
    input_argument,
    json_object,
    read_input_argument,
    read_result,
    service_arguments,
    stage_arguments,
)

MANIFEST = ManifestRef("rounds/r1/select/0123456789abcdef/manifest.json", "f" * 64)
MODEL = ModelRef("store:rounds/r1/train-policy/0123456789abcdef/checkpoint", "f" * 64)
PLACES = [
    ServicePlace("127.0.0.1", 0, "/store", ready_file="ready"),
    ServicePlace(
        "10.0.0.1", 50_051, "s3://rstar/lab", cache="/cache", metrics_port=9_090, health_port=9_091, tenant="lab/r1"
    ),
]


def service_ref(kind: ServiceKind) -> ServiceRef:
    model = MODEL if kind in {ServiceKind.POLICY, ServiceKind.PPM} else None
    prompt: PromptStyle | None = "bootstrap" if kind is ServiceKind.POLICY else None
    return ServiceRef(kind, model, prompt, slots=3)


@pytest.mark.parametrize("place", PLACES, ids=["laptop", "pod"])
@pytest.mark.parametrize("kind", list(ServiceKind))
def test_every_service_accepts_its_command_line(kind: ServiceKind, place: ServicePlace) -> None:
    upstream = [(used, f"h:{n}") for n, used in enumerate(ServiceKind) if used is not ServiceKind.SEARCH]
    dash, module, *options = service_arguments(service_ref(kind), place, upstream if kind is ServiceKind.SEARCH else ())
    assert (dash, module) == ("-m", SERVICE_PROGRAMS[kind].module)
    given = service_parameters(kind, options)
    assert (given["host"], given["port"], given["metrics_port"]) == (place.host, place.port, place.metrics_port)
    assert given[SERVICE_PROGRAMS[kind].slots_option.removeprefix("--").replace("-", "_")] == 3
    if kind is ServiceKind.SEARCH:
        assert [list(given[used]) for used, _ in upstream] == [[target] for _, target in upstream]
        assert given["tenant"] == (place.tenant or "")


@pytest.mark.parametrize("kind", list(ServiceKind))
def test_a_service_that_is_started_by_hand_listens_on_the_port_of_the_table(kind: ServiceKind) -> None:
    required = ["--model", "m"] if kind in {ServiceKind.POLICY, ServiceKind.PPM} else []
    required += ["--policy", "h:1", "--executor", "h:2"] if kind is ServiceKind.SEARCH else []
    assert service_parameters(kind, required)["port"] == SERVICE_PROGRAMS[kind].port


def test_the_policy_service_accepts_the_command_line_of_an_endpoint() -> None:
    endpoint = EndpointRef(
        "https://llm.example.com/v1", "large", "hf:org/large", key_variable="UNUSED", round_name="r1"
    )
    place = ServicePlace("127.0.0.1", 0, "/store", key_variable="LLM_KEY")
    ref = ServiceRef(ServiceKind.POLICY, prompt="chat", prompt_file="store:few.txt", endpoint=endpoint)
    _, _, *options = service_arguments(ref, place)
    given = service_parameters(ServiceKind.POLICY, options)
    assert (given["endpoint"], given["model_name"], given["api_key_env"]) == (endpoint.url, "large", "LLM_KEY")
    assert (given["tokenizer"], given["prompt_file"], given["store"]) == ("hf:org/large", "store:few.txt", "/store")
    assert (given["model"], given["round"]) == (None, "r1")


def test_the_ppm_service_accepts_the_command_line_of_a_given_reward_model() -> None:
    ref = ServiceRef(ServiceKind.PPM, ModelRef("hf:org/prm", round_name="r1"), convention="math-shepherd")
    _, _, *options = service_arguments(ref, ServicePlace("127.0.0.1", 0, "/store"))
    given = service_parameters(ServiceKind.PPM, options)
    assert (given["model"], given["round"], given["convention"]) == ("hf:org/prm", "r1", "math-shepherd")


def service_parameters(kind: ServiceKind, options: list[str]) -> dict[str, Any]:
    """Parse ``options`` as the service's own command line does."""
    app = typer.Typer()
    [entry] = entry_points(group="rstar.services", name=kind.value)
    assert entry.module.partition(".")[0] == SERVICE_PROGRAMS[kind].module
    app.command()(entry.load())
    with typer.main.get_command(app).make_context(kind.value, options) as context:
        return context.params


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_accepts_its_command_line(stage: Stage) -> None:
    inputs = tuple((name, MANIFEST) for name in STAGE_INPUTS[stage])
    place = StagePlace("round.yaml", "s3://rstar/lab", "result", "configmap:p", cache="/cache", search=("a:1", "b:2"))
    dash, module, *options = stage_arguments(StartStage(stage, 1, inputs), place)
    assert (dash, module) == ("-m", STAGE_MODULES[stage])
    given = argument_parser(stage).parse_args(options)
    assert [read_input_argument(text) for text in given.input] == list(inputs)
    assert (given.store, given.progress, given.search) == ("s3://rstar/lab", "configmap:p", "a:1,b:2")
    assert [str(path) for path in (given.round, given.result, given.cache)] == ["round.yaml", "result", "/cache"]


@pytest.mark.parametrize("module", [*STAGE_MODULES.values(), *(p.module for p in SERVICE_PROGRAMS.values())])
def test_every_module_of_the_table_can_be_run(module: str) -> None:
    found = importlib.util.find_spec(module)
    assert found is not None
    if found.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{module}.__main__") is not None


def test_torchrun_finds_the_other_nodes_by_its_environment_alone() -> None:
    start = StartStage(Stage.TRAIN_POLICY, 1, ())
    place = StagePlace("round.yaml", "/store", "result", "progress")
    one = stage_arguments(start, place, processes=2)
    assert one[:7] == [
        *["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
        STAGE_MODULES[start.stage],
    ]
    several = stage_arguments(start, place, processes=2, nodes=3)
    assert several[:4] == ["-m", "torch.distributed.run", "-m", STAGE_MODULES[start.stage]]
    assert several[4:] == one[7:]


text = st.text(min_size=1, max_size=20)


@given(text.filter(lambda name: "=" not in name), text)
def test_an_input_survives_its_command_line(name: str, key: str) -> None:
    ref = ManifestRef(key, "0" * 64)
    assert read_input_argument(input_argument(name, ref)) == (name, ref)


@pytest.mark.parametrize("text", ["", "select", "select=", "select=key", "select=key@abc", f"=key@{'f' * 64}"])
def test_a_broken_input_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=KEY@DIGEST") as caught:
        read_input_argument(text)
    assert repr(text) in str(caught.value)


def test_the_result_that_a_stage_writes_is_read_back() -> None:
    output = StageOutput(MANIFEST, {"a": 1}, "0.1+ab")
    assert read_result(0, result_bytes(MANIFEST, {"a": 1}, "0.1+ab")) == StageResult(0, output)


@pytest.mark.parametrize(
    ("exit_code", "result", "expected"),
    [
        (0, "", StageResult(0)),
        (0, '{"manifest": "k", "digest": "short"}', StageResult(0)),
        (1, '{"error": "the disk is full", "exit_code": 1}', StageResult(1, error="the disk is full")),
        (1, '{"error": "no problems", "exit_code": 2}', StageResult(BAD_INPUT, error="no problems")),
        (143, '{"error": "ended by SIGTERM", "exit_code": 143}', StageResult(143, error="ended by SIGTERM")),
        (137, "the last line of its log", StageResult(137)),
        (1, b"\xff\xfe", StageResult(1)),
        (1, result_bytes(MANIFEST, {}, ""), StageResult(1)),
    ],
)
def test_a_result_counts_only_with_the_exit_code(exit_code: int, result: str | bytes, expected: StageResult) -> None:
    assert read_result(exit_code, result) == expected


@given(st.text(max_size=50) | st.binary(max_size=50))
def test_any_content_of_a_file_is_an_object_or_empty(content: str | bytes) -> None:
    assert isinstance(json_object(content), dict)
