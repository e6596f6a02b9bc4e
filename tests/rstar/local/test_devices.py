"""GPUs of this machine: found without torch, given to model servers and training, one process one device."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.local.commands import Launch, PlatformCommands, StageFiles
from rstar.local.devices import gpu_faults, least_used, named_gpus, visible_gpus
from rstar.local.services import Services
from rstar.rounds.observed import ModelRef, ModelServing, ServiceKind, ServiceRef, Stage, StartStage
from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec
from tests.support.local.bench import eventually

ABSENT = Path("/nonexistent")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("0,1", ("0", "1")),
        ("", ()),
        ("-1", ()),
        ("2, GPU-1f,-1,3", ("2", "GPU-1f")),
        ("MIG-a/3/0", ("MIG-a/3/0",)),
        ("0,,1", ("0",)),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(value: str, names: tuple[str, ...]) -> None:
    assert named_gpus(value) == names
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": value}, query=["false"], proc=ABSENT) == names


def test_gpus_are_found_by_nvidia_smi_or_in_proc_or_there_are_none(tmp_path: Path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert visible_gpus({}, query=["printf", r"0\n1\n2\n"], proc=tmp_path) == ("0", "1", "2")
    assert visible_gpus({}, query=["printf", "No devices were found"], proc=tmp_path) == ()
    assert visible_gpus({}, query=["false"], proc=tmp_path) == ("0", "1")
    assert visible_gpus({}, query=[str(ABSENT)], proc=ABSENT) == ()


def test_processes_go_round_the_gpus_and_a_restarted_one_gets_the_free_one() -> None:
    assert least_used("012", [], 1) == ("0",)
    assert least_used("012", "0", 1) == ("1",)
    assert least_used("012", "012", 1) == ("0",)
    assert least_used("012", "02", 1) == ("1",)
    assert least_used("0123", "0", 2) == ("1", "2")
    assert least_used("01", "", 4) == ("0", "1")
    assert least_used("", "", 1) == ()


@given(st.integers(1, 8), st.lists(st.integers(1, 3), max_size=20))
def test_no_gpu_has_two_more_processes_than_another_of_one_device_each(number: int, counts: list[int]) -> None:
    gpus = [str(gpu) for gpu in range(number)]
    used: list[str] = []
    for _ in counts:
        used += least_used(gpus, used, 1)
    uses = [used.count(gpu) for gpu in gpus]
    assert max(uses) - min(uses) <= 1


@dataclass(frozen=True)
class RecordingCommands:
    """Each service writes the GPUs that it sees to a file, and waits."""

    folder: Path

    def service(
        self, ref: ServiceRef, port: int, ready_file: Path, upstream: Mapping[ServiceKind, Sequence[str]]
    ) -> Launch:
        seen = self.folder / f"{ready_file.stem}.gpus"
        program = (
            "import os, sys, time; from pathlib import Path; path = Path(sys.argv[1]);"
            "path.with_suffix('.new').write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'unset'));"
            "path.with_suffix('.new').rename(path); time.sleep(600)"
        )
        return Launch((sys.executable, "-c", program, str(seen)), {"A": "b"})

    def stage(self, spec: EvolutionRoundSpec, start: StartStage, files: StageFiles, search: Sequence[str]) -> Launch:
        raise NotImplementedError


@contextmanager
def services_on(folder: Path, gpus: Sequence[str]) -> Iterator[Services]:
    services = Services(RecordingCommands(folder), folder / "services", gpus)
    try:
        yield services
    finally:
        services.kill()


def seen(folder: Path, count: int) -> dict[str, str]:
    eventually(lambda: len(list(folder.glob("*.gpus"))) == count)
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.gpus"))}


def test_each_replica_of_a_model_service_sees_gpus_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    model = ModelRef("base")
    with services_on(tmp_path, ["0", "1", "2", "3"]) as services:
        services.start(
            ServiceRef(ServiceKind.POLICY, model, replicas=1, serving=ModelServing(engine="vllm", tensor_parallel=2))
        )
        services.start(ServiceRef(ServiceKind.PPM, model, replicas=3))
        services.start(ServiceRef(ServiceKind.EXECUTOR))
        assert seen(tmp_path, 5) == {
            "policy-1-0": "0,1",
            "ppm-2-0": "2",
            "ppm-2-1": "3",
            "ppm-2-2": "0",
            "executor-3-0": "unset",
        }


def test_without_gpus_the_environment_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with services_on(tmp_path, []) as services:
        services.start(ServiceRef(ServiceKind.POLICY, ModelRef("base")))
        assert seen(tmp_path, 1) == {"policy-1-0": ""}


def a_round(**spec: Any) -> EvolutionRound:
    return EvolutionRound.model_validate(
        {
            "apiVersion": "rstar.dev/v1alpha1",
            "kind": "EvolutionRound",
            "metadata": {"name": "r1"},
            "spec": {"round": 1, "baseModel": "base", "problems": {"uri": "x"}, **spec},
        }
    )


def test_a_training_process_sees_one_gpu_and_another_stage_all() -> None:
    commands = PlatformCommands("/store", cores=4, gpus=["4", "5", "6"])
    files = StageFiles(Path("a"), Path("b"), Path("c"))
    spec = a_round(trainPolicy={"processesPerNode": 2}).spec

    def environment(stage: Stage) -> Mapping[str, str]:
        return commands.stage(spec, StartStage(stage, 1, ()), files, ()).environment

    assert environment(Stage.TRAIN_POLICY)["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert environment(Stage.TRAIN_PPM)["CUDA_VISIBLE_DEVICES"] == "4"
    assert "CUDA_VISIBLE_DEVICES" not in environment(Stage.SELECT)


def test_a_round_that_needs_more_gpus_than_there_are_is_refused() -> None:
    services = {"policy": {"engine": "vllm", "tensorParallel": 4}}
    item = a_round(services=services, trainPpm={"processesPerNode": 3})
    assert list(gpu_faults([item], ["0", "1"])) == [
        "round r1: services.policy.tensorParallel is 4, but 2 GPUs are visible here: use at most 2",
        "round r1: trainPpm.processesPerNode is 3, but 2 GPUs are visible here: use at most 2",
    ]
    assert list(gpu_faults([item], [])) == []
    assert list(gpu_faults([item], "0123")) == []
