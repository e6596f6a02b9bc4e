"""The plugin ``kubectl rstar`` without a cluster: its commands, its help, its completion; tests/cluster has the rest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rstar.cli.kubectl_plugin import moved_options, plugin
from tests.support.commands import PLAIN_TERMINAL, Finished, assert_refused


def run(entry: str, *arguments: str, environment: Mapping[str, str] = PLAIN_TERMINAL) -> Finished:
    code = f"from rstar.cli.kubectl_plugin import {entry}; {entry}()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_it_has_the_commands_that_take_a_namespace_and_no_option_for_a_store() -> None:
    names = list(plugin().commands)
    assert {"status", "logs", "submit", "suspend", "resume", "cancel", "doctor"} <= set(names)
    assert not {"run", "init", "data", "export", "evaluate"} & set(names)
    for name in names:
        shown = run("run", name, "--help")
        assert shown.code == 0
        assert f"kubectl rstar {name}" in " ".join(shown.out.split())
        assert "--store" not in shown.out
        assert "--namespace" in shown.out


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        ([], []),
        (["status", "-n", "lab"], ["status", "-n", "lab"]),
        (["-n", "lab", "status", "r1"], ["status", "r1", "-n", "lab"]),
        (["-nlab", "--context=x", "logs"], ["logs", "-nlab", "--context=x"]),
        (["--namespace=lab", "--kubeconfig", "f", "status"], ["status", "--namespace=lab", "--kubeconfig", "f"]),
        (["--help"], ["--help"]),
    ],
)
def test_kubectls_options_may_stand_before_the_command(words: list[str], moved: list[str]) -> None:
    assert moved_options(words) == moved


def test_without_options_the_place_is_the_cluster_of_the_kubeconfig(tmp_path: Path) -> None:
    nowhere = {**PLAIN_TERMINAL, "KUBECONFIG": str(tmp_path / "none"), "RSTAR_STORE": str(tmp_path)}
    assert_refused(run("run", "status", environment=nowhere), "no cluster to talk to")
    assert_refused(run("run", "status", "--store", "x", environment=nowhere), "for this machine")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["s"], ["submit", "status", "suspend", ":4"]),
        (["-n", "lab", "res"], ["resume", ":4"]),
        (["status", "--js"], ["--json", ":4"]),
        (["submit", ""], [":0"]),
        (["nonsense"], [":0"]),
    ],
)
def test_kubectl_completes_commands_and_options(words: list[str], expected: list[str]) -> None:
    finished = run("complete", *words)
    assert [line.partition("\t")[0] for line in finished.out.splitlines()] == expected
    assert finished.err == ""
