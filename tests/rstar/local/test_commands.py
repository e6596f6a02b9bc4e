"""The command lines of services and stages on this machine: options, cores and threads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rstar.local.commands import PlatformCommands, StageFiles
from rstar.rounds.observed import (
    EndpointRef,
    ManifestRef,
    ModelRef,
    SecretRef,
    ServiceKind,
    ServiceRef,
    Stage,
    StartStage,
)
from rstar.rounds.spec import EvolutionRoundSpec, PreferenceModelSpec

FILES = StageFiles(Path("round.yaml"), Path("result.json"), Path("progress.json"))
SELECT = ManifestRef("rounds/r1/select/0/manifest.json", "ab")


@pytest.fixture
def spec() -> EvolutionRoundSpec:
    return EvolutionRoundSpec.model_validate(
        {"round": 1, "baseModel": "base", "problems": {"uri": "x"}, "trainPolicy": {"processesPerNode": 2}}
    )


@pytest.fixture(autouse=True)
def _no_variables_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)


def test_a_stage_is_given_its_inputs_by_key_and_digest(spec: EvolutionRoundSpec) -> None:
    start = StartStage(Stage.ROLLOUT, 1, (("policy", SELECT),))
    launch = PlatformCommands("/store", cores=4).stage(spec, start, FILES, ["127.0.0.1:7", "127.0.0.1:8"])
    assert " ".join(launch.command) == (
        f"{sys.executable} -m rstar_jobs.rollout --round round.yaml --store /store "
        "--input policy=rounds/r1/select/0/manifest.json@ab --result result.json --progress progress.json "
        "--search 127.0.0.1:7,127.0.0.1:8"
    )


def test_several_training_processes_run_under_torchrun_on_all_cores(spec: EvolutionRoundSpec) -> None:
    start = StartStage(Stage.TRAIN_POLICY, 1, (("select", SELECT),))
    launch = PlatformCommands("/store", cores=4).stage(spec, start, FILES, ())
    assert " ".join(launch.command).startswith(
        f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2 -m rstar_jobs.train_policy --round"
    )
    assert launch.environment["OMP_NUM_THREADS"] == "2"
    assert launch.environment["OMP_WAIT_POLICY"] == "passive"


def test_one_training_process_needs_no_launcher(spec: EvolutionRoundSpec) -> None:
    launch = PlatformCommands("/store", cores=4).stage(spec, StartStage(Stage.TRAIN_PPM, 1, ()), FILES, ())
    assert launch.command[1:3] == ("-m", "rstar_jobs.train_ppm")
    assert launch.environment["OMP_NUM_THREADS"] == "4"


def test_a_round_that_trains_no_ppm_needs_no_torchrun_for_it(spec: EvolutionRoundSpec) -> None:
    never = spec.model_copy(update={"preference_model": PreferenceModelSpec(use="never")})
    launch = PlatformCommands("/store", cores=4).stage(never, StartStage(Stage.TRAIN_PPM, 1, ()), FILES, ())
    assert launch.command[1:3] == ("-m", "rstar_jobs.train_ppm")


def test_a_model_server_gets_all_cores_and_its_replicas_share_them() -> None:
    commands = PlatformCommands("/store", cores=4)
    for replicas, threads in ((1, "4"), (2, "2"), (8, "1")):
        policy = ServiceRef(ServiceKind.POLICY, ModelRef("base"), replicas=replicas)
        assert commands.service(policy, 0, Path("ready"), {}).environment["OMP_NUM_THREADS"] == threads
    search = ServiceRef(ServiceKind.SEARCH)
    assert commands.service(search, 0, Path("ready"), {}).environment["OMP_NUM_THREADS"] == "1"


def test_variables_that_the_user_has_set_stay(spec: EvolutionRoundSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    launch = PlatformCommands("/store", cores=4).stage(spec, StartStage(Stage.TRAIN_PPM, 1, ()), FILES, ())
    assert "OMP_NUM_THREADS" not in launch.environment


def test_executors_share_the_cores_unless_slots_are_given() -> None:
    commands = PlatformCommands("/store", cores=6)
    ready = Path("ready")
    command = commands.service(ServiceRef(ServiceKind.EXECUTOR, replicas=2), 0, ready, {}).command
    assert command[command.index("--slots") + 1] == "3"
    command = commands.service(ServiceRef(ServiceKind.EXECUTOR, slots=5), 0, ready, {}).command
    assert command[command.index("--slots") + 1] == "5"


def test_a_coordinator_is_given_every_address_of_its_upstream_services() -> None:
    upstream = {ServiceKind.POLICY: ["127.0.0.1:1", "127.0.0.1:2"], ServiceKind.EXECUTOR: ["127.0.0.1:3"]}
    command = " ".join(
        PlatformCommands("/store").service(ServiceRef(ServiceKind.SEARCH), 0, Path("r"), upstream).command
    )
    assert "-m rstar_search " in command
    assert "--policy 127.0.0.1:1 --policy 127.0.0.1:2 --executor 127.0.0.1:3" in command


def test_a_client_of_an_endpoint_is_given_the_name_of_the_variable_with_its_key() -> None:
    endpoint = EndpointRef("http://h/v1", "large", None, "LLM_KEY", SecretRef("llm", "api-key"))
    ref = ServiceRef(ServiceKind.POLICY, prompt="bootstrap", endpoint=endpoint)
    command = " ".join(PlatformCommands("/store").service(ref, 0, Path("r"), {}).command)
    assert "--endpoint http://h/v1 --model-name large --api-key-env LLM_KEY --prompt bootstrap" in command
    assert "--model " not in command


def test_a_model_service_is_given_its_model_store_and_prompt() -> None:
    ref = ServiceRef(ServiceKind.POLICY, ModelRef("store:rounds/r1/train-policy/0/checkpoint", "ab"), "bootstrap")
    command = " ".join(PlatformCommands("/store").service(ref, 0, Path("r"), {}).command)
    assert "--model store:rounds/r1/train-policy/0/checkpoint --store /store --prompt bootstrap" in command
