"""Judgements of the doctor: facts in, findings out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from rstar_operator.crd.rounds import round_crd

from rstar.doctor.cluster import (
    RIGHTS,
    BackendFacts,
    KindFacts,
    OperatorFacts,
    judge_backend,
    judge_executors,
    judge_gpus,
    judge_images,
    judge_kinds,
    judge_metrics,
    judge_namespace,
    judge_operator,
    judge_policies,
    judge_quota,
    judge_rights,
    judge_version,
)
from rstar.doctor.finding import GIB, Check, Finding, check, exit_code
from rstar.doctor.gpu_memory import free_of
from rstar.doctor.machine import (
    CoreFacts,
    FolderFacts,
    GpuFacts,
    LimitFacts,
    MemoryFacts,
    PackageFacts,
    PythonFacts,
    SystemFacts,
    judge_cores,
    judge_gpu,
    judge_isolation,
    judge_limits,
    judge_memory,
    judge_packages,
    judge_ports,
    judge_python,
    judge_system,
    judge_temporary_files,
)
from rstar.doctor.quantities import needed
from rstar.doctor.round_file import (
    FileFacts,
    GpuNeeds,
    MemoryNeeds,
    RoundMemory,
    judge_engines,
    judge_file,
    judge_gpu_needs,
    judge_hub,
    judge_needs,
)
from rstar.doctor.running import run_checks
from rstar.doctor.store import StoreFacts, judge_store
from rstar.rounds.spec import EvolutionRoundSpec

H100 = (("NVIDIA H100", 80 * GIB),)
LAYER = {"name": "seccomp", "in_force": True, "required": True, "remedy": ""}
REPORT: dict[str, Any] = {"missing": "", "layers": [LAYER], "checks": [{"works": True, "detail": "numpy works"}]}
OPTIONAL = {"name": "cgroup", "in_force": False, "required": False, "remedy": "delegate one"}
SPEC: dict[str, Any] = {"round": 1, "baseModel": "store:base", "problems": {"uri": "store:train.jsonl"}}


def spec(**more: Any) -> EvolutionRoundSpec:
    return EvolutionRoundSpec.model_validate({**SPEC, **more})


@pytest.mark.parametrize(
    ("finding", "result", "word"),
    [
        (judge_python(PythonFacts((3, 11, 7), "CPython", "python")), "ok", "3.11.7"),
        (judge_python(PythonFacts((3, 10, 1), "CPython", "python")), "failed", "too old"),
        (judge_python(PythonFacts((3, 12, 1), "PyPy", "pypy")), "warning", "not CPython"),
        (judge_system(SystemFacts("Linux", "6.8.0-31-generic", "x86_64")), "ok", "6.8.0"),
        (judge_system(SystemFacts("Linux", "5.4.0", "x86_64")), "warning", "Landlock"),
        (judge_system(SystemFacts("Darwin", "24.0", "arm64")), "warning", "Linux only"),
        (judge_system(SystemFacts("Windows", "11", "AMD64")), "failed", "Linux only"),
        (judge_cores(CoreFacts(8, None, 1.0)), "ok", "8 cores"),
        (judge_cores(CoreFacts(8, 1.5, 1.0)), "warning", "1.5 cores"),
        (judge_cores(CoreFacts(2, None, 9.0)), "warning", "busy"),
        (judge_memory(MemoryFacts(16 * GIB)), "ok", "16.0 GiB"),
        (judge_memory(MemoryFacts(2 * GIB)), "warning", "2.0 GiB"),
        (judge_memory(MemoryFacts(GIB // 2)), "failed", "512 MiB"),
        (judge_temporary_files(FolderFacts("/tmp", 9 * GIB)), "ok", "9.0 GiB"),
        (judge_temporary_files(FolderFacts("/tmp", 1)), "warning", "1 bytes"),
        (judge_temporary_files(FolderFacts("/tmp", 9 * GIB, "read-only")), "failed", "read-only"),
        (judge_limits(LimitFacts(65_536, None, None)), "ok", "suffice"),
        (judge_limits(LimitFacts(256, 100, 1 << 20)), "warning", "256 open files, 100 processes, 1 MiB in /dev/shm"),
        (judge_gpu(GpuFacts(0)), "skipped", "torch"),
        (judge_gpu(GpuFacts(1)), "warning", "torch"),
        (judge_gpu(GpuFacts(0, "2.9")), "ok", "CPU"),
        (judge_gpu(GpuFacts(1, "2.9+cpu")), "failed", "CPU build"),
        (judge_gpu(GpuFacts(1, "2.9", "12.8", error="driver too old")), "failed", "driver too old"),
        (judge_gpu(GpuFacts(1, "2.9", "12.8", H100, True, "570")), "ok", "H100 (80.0 GiB)"),
        (judge_gpu(GpuFacts(1, "2.9", "12.8", H100, False)), "warning", "no bfloat16"),
        (judge_isolation(REPORT), "ok", "seccomp"),
        (judge_isolation({**REPORT, "layers": [LAYER, OPTIONAL]}), "ok", "without the optional cgroup"),
        (judge_isolation({**REPORT, "missing": "seccomp is not in force"}), "failed", "not contained"),
        (judge_isolation({**REPORT, "checks": [{"works": False, "detail": "sympy fails"}]}), "failed", "sympy"),
        (judge_isolation({"error": "no module rstar_executor"}), "warning", "no module"),
        (judge_ports({}), "ok", "free"),
        (judge_ports({"policy": 50_051}), "warning", "50051 (policy)"),
    ],
)
def test_a_machine_is_judged_with_what_was_found_and_a_remedy(finding: Finding, result: str, word: str) -> None:
    assert finding.result == result
    assert word in finding.found
    assert finding.mend or result in {"ok", "skipped"}


def test_packages_are_judged_by_whole_extras() -> None:
    jobs = {"torch": "2.9", "peft": "0.17"}
    facts = PackageFacts("0.1.0", {"": {"grpcio": "1.76"}, "jobs": jobs}, {"vllm": {"vllm": ""}})
    assert judge_packages(facts).result == "ok"
    assert "no vLLM" in judge_packages(facts).found
    assert judge_packages(replace(facts, missing={"": {"minio": ""}})).result == "failed"
    old = judge_packages(replace(facts, missing={"jobs": {"transformers": "4.1, not >=5.0"}}))
    assert (old.result, "transformers 4.1, not >=5.0" in old.found) == ("warning", True)
    assert "rstar-math[jobs]" in old.mend
    assert judge_packages(PackageFacts("0.1.0", {}, {})).result == "warning"
    assert judge_packages(PackageFacts("", {}, {})).result == "skipped"


def results(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.name: finding.result for finding in findings}


def test_a_store_is_judged_by_each_of_its_properties() -> None:
    good = StoreFacts("s3://lab/x", skew=1.0)
    assert set(results(judge_store(good)).values()) == {"ok"}
    assert results(judge_store(replace(good, opened="bucket lab does not exist"))) == {"store": "failed"}
    assert results(judge_store(replace(good, written="access denied"))) == {"store": "failed"}
    assert results(judge_store(replace(good, conditional=False)))["store: conditional writes"] == "warning"
    assert results(judge_store(replace(good, left="access denied")))["store"] == "warning"
    assert results(judge_store(replace(good, free=1)))["store: room"] == "warning"
    assert results(judge_store(replace(good, skew=-400.0)))["store: clock"] == "warning"
    assert results(judge_store(replace(good, skew=1_000.0)))["store: clock"] == "failed"


def test_a_round_is_judged_by_its_file_its_memory_its_gpus_and_its_engines() -> None:
    assert judge_file(FileFacts("r.yaml", ("r1",), ())).result == "ok"
    bad = judge_file(FileFacts("r.yaml", ("r1",), ("r1: no such file", "another")))
    assert (bad.result, "no such file (and 1 more)" in bad.found) == ("failed", True)
    small, large = RoundMemory("r1", GIB, 2 * GIB, 3 * GIB), RoundMemory("r2", unknown="its files are not here")
    assert judge_needs(MemoryNeeds((small, large), 8 * GIB)).result == "ok"
    assert judge_needs(MemoryNeeds((small,), int(2.2 * GIB))).result == "warning"
    assert judge_needs(MemoryNeeds((small,), GIB)).result == "failed"
    assert judge_needs(MemoryNeeds((large,), GIB)).result == "skipped"
    assert judge_engines({}).result == "ok"
    assert judge_hub({}).result == "ok"
    assert judge_hub({"hf:a/b": "the hub does not know a/b"}).found == "the hub does not know a/b"
    assert "rstar-math[vllm]" in judge_engines({"policy": "vllm"}).mend
    assert judge_gpu_needs(GpuNeeds(0, (), ())).result == "ok"
    assert judge_gpu_needs(GpuNeeds(0, (), ("r1",))).result == "warning"
    assert judge_gpu_needs(GpuNeeds(1, ("tensorParallel is 2: use at most 1",), ())).result == "failed"


def deployment(ready: int) -> dict[str, Any]:
    metadata = {"namespace": "rstar", "name": "rstar-operator"}
    return {"metadata": metadata, "spec": {"replicas": 1}, "status": {"readyReplicas": ready}}


RESTRICTED = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
DENY = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}
IMAGES = {"policy": "registry:5000/rstar/policy:0.1.0", "jobs": "rstar/jobs@sha256:ab"}


@pytest.mark.parametrize(
    ("finding", "result", "word"),
    [
        (judge_version({"gitVersion": "v1.35.4", "minor": "35"}), "ok", "v1.35.4"),
        (judge_version({"gitVersion": "v1.28.0-eks", "minor": "28+"}), "failed", "v1.28.0"),
        (judge_version(None), "failed", "/version"),
        (judge_namespace("lab", None)[0], "skipped", "lab"),
        (judge_namespace("lab", {})[0], "failed", "there is no namespace lab"),
        (judge_namespace("lab", {"metadata": {"deletionTimestamp": "now"}})[0], "failed", "deleted"),
        (judge_namespace("lab", RESTRICTED)[1], "ok", "restricted"),
        (judge_namespace("lab", {"metadata": {}})[1], "warning", "privileged"),
        (judge_operator(OperatorFacts([deployment(1)])), "ok", "rstar/rstar-operator: 1 of 1 ready"),
        (judge_operator(OperatorFacts([deployment(0)], 2, 2)), "failed", "0 of 1"),
        (judge_operator(OperatorFacts([])), "failed", "no Deployment"),
        (judge_operator(OperatorFacts(None)), "skipped", "may not see"),
        (judge_operator(OperatorFacts(None, 2, 2)), "ok", "2 rounds"),
        (judge_operator(OperatorFacts(None, 3, 1)), "warning", "2 of 3 rounds"),
        (judge_rights(dict.fromkeys(RIGHTS, True)), "ok", "all"),
        (judge_rights({right: right[0] != "create" for right in RIGHTS}), "warning", "create evolutionrounds (submit)"),
        (judge_rights(dict.fromkeys(RIGHTS, False)), "failed", "list evolutionrounds (status)"),
        (judge_backend(BackendFacts("pytorchjob", True, False)), "ok", "pytorchjob"),
        (judge_backend(BackendFacts("trainjob", True, False)), "failed", "pytorchjob only"),
        (judge_backend(BackendFacts("", False, False)), "failed", "neither"),
        (judge_images(None, "0.1.0"), "skipped", "cannot be read"),
        (judge_images({"images": IMAGES}, "0.1.0"), "ok", "registry:5000/rstar/policy:0.1.0"),
        (judge_images({"images": IMAGES}, "0.2.0"), "warning", "images of 0.1.0, and this is 0.2.0"),
        (judge_images({"images": {"policy": "registry:5000/policy"}}, "0.1.0"), "warning", "without a fixed version"),
        (judge_gpus(None, {}), "skipped", "nodes"),
        (judge_gpus([{"status": {"allocatable": {"nvidia.com/gpu": "8"}}}], {}), "ok", "8 nvidia.com/gpu"),
        (judge_gpus([{}], {"nvidia.com/gpu": Decimal(1)}), "failed", "no GPUs"),
        (judge_policies(None), "skipped", "policies"),
        (judge_policies([DENY]), "ok", "deny"),
        (judge_policies([]), "warning", "none of 0"),
        (judge_metrics(None), "warning", "no metrics API"),
        (judge_metrics({}), "ok", "served"),
        (judge_executors(None, ""), "warning", "none"),
        (judge_executors(None, "dns:///shared:50053"), "ok", "shared"),
        (judge_executors(deployment(2), ""), "ok", "2 ready"),
        (judge_executors(deployment(0), ""), "failed", "no executor"),
    ],
)
def test_a_namespace_is_judged_by_what_its_user_may_read(finding: Finding, result: str, word: str) -> None:
    assert finding.result == result
    assert word in finding.found
    assert finding.mend or result in {"ok", "skipped"}


def test_a_quota_is_compared_with_what_the_rounds_pods_request_at_once() -> None:
    gpu = {"resources": {"policy": {"cpu": 4, "memory": "16Gi", "gpus": 2}, "trainPolicy": {"gpus": 8}}}
    needs = needed(spec(cluster=gpu, services={"policy": {"replicas": 3}}))
    assert needs["requests.nvidia.com/gpu"] == 8
    assert needs["requests.cpu"] == 3 * 4 + 2
    assert needs["pods"] == 5

    def judged(**hard: str) -> Finding:
        quota = {"metadata": {"name": "q"}, "spec": {}, "status": {"hard": hard, "used": {"requests.cpu": "6"}}}
        return judge_quota("r1", [quota], needs)

    assert judged(**{"requests.cpu": "20", "pods": "50"}).result == "ok"
    short = judged(**{"requests.cpu": "19500m"})
    assert (short.result, "14 of requests.cpu (13.5 are left)" in short.found) == ("failed", True)
    assert "of memory (8.0 Gi are left)" in judged(memory="8Gi").found
    assert judge_quota("", [], needs).result == "ok"
    assert judge_quota("", None, needs).result == "skipped"


def test_a_crd_of_another_version_is_named_by_its_first_difference() -> None:
    own = round_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def changed(edit: Any) -> Finding:
        other = round_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        edit(other["properties"]["spec"]["properties"])
        return judge_kinds([KindFacts("EvolutionRound", own, other, served=True)])[0]

    assert changed(lambda spec: None).result == "ok"
    assert changed(lambda spec: spec["seed"].update(description="other words")).result == "ok"
    assert "does not know spec.seed" in changed(lambda spec: spec.pop("seed")).found
    assert "this code does not know spec.fresh" in changed(lambda spec: spec.update(fresh={"type": "string"})).found
    assert "spec.seed has another type" in changed(lambda spec: spec["seed"].update(type="string")).found
    assert judge_kinds([KindFacts("EvolutionRound", own, None, served=False)])[0].result == "failed"
    assert judge_kinds([KindFacts("EvolutionRound", own, None, served=True)])[0].result == "skipped"


def test_the_free_memory_of_the_visible_gpus_is_added_up() -> None:
    listed = "0, GPU-a, 1024\n1, GPU-b, 2048\n2, GPU-c, [N/A]\n"
    assert free_of(listed, ("0", "GPU-b", "2")) == 3 * GIB


def test_a_check_that_raises_or_hangs_ends_no_other_one() -> None:
    def broken() -> int:
        raise RuntimeError("the driver\nis broken")

    hang = threading.Event()

    def hangs() -> list[Finding]:
        hang.wait(600)
        return []

    fine = Finding("fine", "ok", "all is well")
    checks = [
        check("broken", broken, lambda _: fine),
        Check("hangs", hangs, 0.1),
        check("fine", lambda: 1, lambda _: fine, 600),
    ]
    findings = run_checks(checks)
    hang.set()
    assert results(findings) == {"broken": "failed", "hangs": "failed", "fine": "ok"}
    assert "RuntimeError: the driver is broken" in findings[0].found
    assert "did not end within 0.1 s" in findings[1].found
    assert (exit_code(findings), exit_code(findings[2:])) == (1, 0)
