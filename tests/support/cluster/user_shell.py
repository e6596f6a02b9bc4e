"""A user's shell on a cluster: ``rstar`` as a program, rounds that it submits, and statuses and pods as an operator makes them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from rstar.cluster.names import ATTEMPT, COMPONENT, ROUND, STAGE
from rstar.rounds.observed import Attempt, AttemptState, Observed, Stage
from rstar.rounds.plan import plan
from rstar.rounds.spec import EvolutionRoundSpec
from tests.support.cluster.pods import NamespaceClient, pod
from tests.support.commands import PLAIN_TERMINAL, RSTAR, Finished

NOW = datetime(2030, 1, 1, tzinfo=UTC)

Data = dict[str, Any]

IN_STORE: Data = {"baseModel": "store:models/base", "problems": {"uri": "store:data/train.jsonl"}}
STORED = (IN_STORE, IN_STORE)


class UserShell:
    """A user's shell: a folder with files, a kubeconfig and one namespace."""

    def __init__(self, client: NamespaceClient, folder: Path, bytecode: Path) -> None:
        self.client = client
        self.bytecode = bytecode
        self.namespace = client.namespace
        self.kubeconfig = client.bed.kubeconfig
        self.folder = folder
        (folder / "base").mkdir()
        (folder / "base" / "config.json").write_text("{}")
        (folder / "problems.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')

    def write(self, *specs: Data, file: str = "rounds.yaml") -> None:
        """Write rounds r1, r2, ...; paths are local unless a spec says otherwise."""
        documents = []
        for number, spec in enumerate(specs, 1):
            whole: Data = {"round": number, "baseModel": "base", "problems": {"uri": "problems.jsonl"}}
            whole |= {"previousRound": f"r{number - 1}"} if number > 1 else {}
            kind = {"apiVersion": "rstar.dev/v1alpha1", "kind": "EvolutionRound"}
            documents.append({**kind, "metadata": {"name": f"r{number}"}, "spec": {**whole, **spec}})
        (self.folder / file).write_text(yaml.safe_dump_all(documents))

    def environment(self, settings: Mapping[str, str] = {}) -> dict[str, str]:
        plain = {key: value for key, value in PLAIN_TERMINAL.items() if not key.startswith(("RSTAR_", "AWS_"))}
        plain.pop("PYTHONDONTWRITEBYTECODE", None)
        # The 800 modules of the Kubernetes library are compiled once, not by every command.
        return {**plain, "PYTHONPYCACHEPREFIX": str(self.bytecode), "KUBECONFIG": str(self.kubeconfig), **settings}

    def rstar(self, *arguments: str, **settings: str) -> Finished:
        command = [*RSTAR, *arguments, "-n", self.namespace]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment(settings),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def submit(self) -> None:
        """Submit two rounds that need no upload, r1 and r2."""
        self.write(*STORED)
        done = self.rstar("submit", "rounds.yaml")
        assert done.code == 0, done.err

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*RSTAR, *arguments, "-n", self.namespace],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=self.folder,
        )

    def spec(self, name: str = "r1") -> Data:
        found = self.client.get("evolutionround", name)
        assert found is not None
        spec: Data = found["spec"]
        return spec

    def report(self, name: str, attempts: Sequence[Attempt], **spec: Any) -> None:
        """Write a status as an operator would."""
        wanted = EvolutionRoundSpec.model_validate({**self.spec(name), **spec})
        status = plan(wanted, name, Observed(attempts=tuple(attempts)), NOW).status
        body = json.dumps({"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)})
        self.client.bed.kubectl(
            "patch", "er", name, "-n", self.namespace, "--subresource=status", "--type=merge", "-p", body
        )


def attempt(stage: Stage, number: int, state: AttemptState, code: int | None = None) -> Attempt:
    finished = NOW if code is not None else None
    return Attempt(stage, number, state, NOW, finished, code, "out of memory" if code else "")


def stage_pod(name: str, script: str, number: int = 1, stage: str = "rollout", image: str = "none") -> Data:
    made = pod(name, script, container={"name": "pytorch", "image": image})
    labels = {ROUND: "r1", STAGE: stage, ATTEMPT: str(number), COMPONENT: "stage"}
    made["metadata"]["labels"] |= labels
    return made
