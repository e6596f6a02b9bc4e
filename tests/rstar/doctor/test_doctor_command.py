"""``rstar doctor`` on this machine: real stores, real processes, exit codes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from minio import Minio

from rstar.doctor.finding import Finding
from rstar.doctor.machine_facts import package_facts, taken_ports
from rstar.doctor.round_file import file_checks
from rstar.doctor.running import run_checks
from rstar.doctor.store import judge_store, store_facts
from rstar.rounds.load import parse_rounds
from tests.support.commands import PLAIN_TERMINAL, RSTAR, assert_refused, rstar
from tests.support.tiny_model import save_policy


def judged(uri: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in judge_store(store_facts(uri))}


def test_a_store_is_probed_and_left_as_it_was(tmp_path: Path) -> None:
    empty, absent = tmp_path / "empty", tmp_path / "a" / "store"
    empty.mkdir()
    assert {one.result for one in judged(str(empty)).values()} <= {"ok", "warning"}
    assert judged(str(empty))["store"].result == "ok"
    assert list(empty.iterdir()) == []
    found = judged(str(absent))["store"]
    assert (found.result, "it will be made" in found.found) == ("ok", True)
    assert list(tmp_path.iterdir()) == [empty]
    (tmp_path / "file").touch()
    assert "is a file" in judged(str(tmp_path / "file"))["store"].found
    assert judged("ftp://x")["store"].result == "failed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_and_a_read_only_store_fail_with_the_reason(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="space"):
        filler.write_bytes(b"x" * (1 << 20))
    full = judged(str(small_disk))["store"]
    assert (full.result, "no room" in full.found) == ("failed", True)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    fixed = judged(str(small_disk))["store"]
    assert (fixed.result, "Read-only file system" in fixed.found) == ("failed", True)


def test_a_bucket_is_probed_with_its_clock_and_keeps_nothing(bucket: str, client: Minio) -> None:
    found = judged(f"s3://{bucket}/some/prefix")
    assert found["store"].result == "ok"
    assert found["store: clock"].result == "ok"
    assert list(client.list_objects(bucket, recursive=True)) == []
    missing = judged(f"s3://{bucket}-missing/x")["store"]
    assert (missing.result, "does not exist" in missing.found) == ("failed", True)


def round_file(folder: Path, **spec: object) -> Path:
    (folder / "train.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    whole = {"round": 1, "baseModel": str(folder / "base"), "problems": {"uri": str(folder / "train.jsonl")}, **spec}
    file = folder / "mine.yaml"
    document = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound", "metadata": {"name": "r1"}, "spec": whole}
    file.write_text(yaml.safe_dump(document))
    return file


def of_file(file: Path) -> dict[str, Finding]:
    return {one.name: one for one in run_checks(file_checks(file, parse_rounds(file), None))}


def test_a_round_is_checked_for_its_inputs_its_memory_and_its_engines(tmp_path: Path) -> None:
    save_policy("llama", tmp_path / "base")
    good = of_file(round_file(tmp_path))
    assert {name: one.result for name, one in good.items() if name != "memory of the rounds"} == {
        "file": "ok",
        "engines": "ok",
        "gpus of the rounds": "ok",
    }
    assert "round r1: about" in good["memory of the rounds"].found
    bad = of_file(round_file(tmp_path, baseModel="nowhere", services={"policy": {"engine": "vllm"}}))
    assert "nowhere is not a model folder" in bad["file"].found
    assert bad["memory of the rounds"].result == "skipped"


def test_a_name_of_the_hub_that_is_not_cached_fails_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = of_file(round_file(tmp_path, baseModel="hf:lab/nothing-here"))
    assert found["file"].result == "ok"
    assert (found["hub"].result, "lab/nothing-here" in found["hub"].found) == ("failed", True)


def test_the_doctor_prints_every_check_and_its_exit_code_says_whether_one_failed(tmp_path: Path) -> None:
    environment = {name: value for name, value in PLAIN_TERMINAL.items() if name != "CUDA_VISIBLE_DEVICES"}
    file = round_file(tmp_path, baseModel="nowhere")
    finished = subprocess.run(
        [*RSTAR, "doctor", file, "--store", tmp_path / "store", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    report = json.loads(finished.stdout)
    names = [one["name"] for one in report["checks"]]
    assert names[:10] == [
        *("python", "system", "cores", "memory", "temporary files", "limits", "gpu", "packages", "isolation", "ports")
    ]
    assert {"store", "file", "engines"} <= set(names)
    assert (finished.returncode, report["healthy"], report["summary"]["failed"] > 0) == (1, False, True)
    assert all(one["mend"] for one in report["checks"] if one["result"] in {"warning", "failed"})


def test_wrong_usage_of_the_doctor_is_one_sentence(tmp_path: Path) -> None:
    assert_refused(rstar("doctor", str(tmp_path / "none.yaml")), "cannot be read")
    assert_refused(rstar("doctor", "-n", "lab", "--store", "x"), "give --store for this machine")
    nowhere = {**PLAIN_TERMINAL, "KUBECONFIG": str(tmp_path / "none")}
    assert_refused(rstar("doctor", "-n", "lab", environment=nowhere), "no cluster to talk to")


def test_the_packages_and_ports_of_this_machine_are_found() -> None:
    facts = package_facts()
    assert "torch" in facts.installed["jobs"]
    assert not facts.missing.get("")
    assert package_facts("no-such-distribution-here").version == ""
    assert set(taken_ports()) <= {"policy", "ppm", "executor", "search"}
