"""The crash-injection table: ``python -m tests.support.cluster.crashes [--json]``. Exit code 1 when an outcome differs.

An operator is killed after a write, when the API server has answered and before the operator has the answer; another one
starts. The round must end as an undisturbed one: the same children, the same status, one pod per attempt. In one history the
operator is a process that is killed with SIGKILL after each of its writes. In the others each write of a round is followed by
a kill once. Needs the testbed (``make testbed``).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rstar_operator.backends import backend_of
from rstar_operator.configuration import Configuration
from rstar_operator.watching import Watcher
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Behaviour, Kubelet, Pod, Run

from rstar.cluster.api import ROUNDS, Cluster
from rstar.rpc.logs import configure_logs
from tests.support.cluster.crash_injection import CrashInjector, Write, numbered_writes
from tests.support.cluster.operators import SETTINGS, OperatorProcess, operator_in_process
from tests.support.cluster.outcomes import (
    NAME_PLACEHOLDER,
    PodCounter,
    RoundOutcome,
    differences_once_settled,
    outcome_of,
)
from tests.support.cluster.proxy import AnsweredWrite, Proxy
from tests.support.cluster.rounds import (
    METRICS,
    admin_client,
    install_crds,
    install_prerequisites,
    round_body,
    stage_of,
    wait_for_round,
)

ATTEMPTS: Final = 5
_WIDTH: Final = 120

_SECONDS: Final = 900.0
_QUIET_SECONDS: Final = 2.0
"""After this time without a write the round's outcome is compared: the operator waits, or has finished."""


@dataclass(frozen=True)
class History:
    """A round, the writes after which its operators were killed, and the differences from an undisturbed round."""

    operator: str
    round: str
    kills: tuple[Write, ...]
    differences: tuple[str, ...]


class CrashNamespace:
    """A namespace with the objects that rounds need, whose pods succeed; their pods are counted.

    ``settings`` are those of its operators.
    """

    def __init__(self, bed: Testbed, namespace: str, settings: Mapping[str, Any] = SETTINGS) -> None:
        self.bed = bed
        self.namespace = namespace
        self.settings = settings
        self.cluster: Cluster = admin_client(bed)
        self.pods = PodCounter(_behaviour, backend_of(Configuration.model_validate(settings)).kinds)

    def kubelet(self) -> Kubelet:
        """Return the kubelet of the pods."""
        return Kubelet(self.bed.kubeconfig, self.pods, namespace=self.namespace)

    def operator(self, injector: CrashInjector) -> AbstractContextManager[Watcher]:
        """Return an operator in this process, whose passes ``injector`` makes."""
        return operator_in_process(
            self.bed.kubeconfig, self.namespace, settings=self.settings, make_reconciler=injector
        )

    def create_rounds(self, *names: str) -> None:
        """Create rounds of number 1."""
        for name in names:
            self.cluster.create(ROUNDS, self.namespace, round_body(name))

    def differences(self, name: str, expected: RoundOutcome) -> tuple[str, ...]:
        """Wait for the end of a round, and return its differences from ``expected``."""
        wait_for_round(self.cluster, self.namespace, name, seconds=_SECONDS)
        return tuple(differences_once_settled(self.cluster, self.namespace, name, self.pods, expected))


def undisturbed(space: CrashNamespace, name: str = "undisturbed") -> tuple[RoundOutcome, list[Write]]:
    """Return the outcome of a round whose operator is never killed, and its operator's writes."""
    injector = CrashInjector()
    with space.kubelet(), space.operator(injector):
        space.create_rounds(name)
        wait_for_round(space.cluster, space.namespace, name, seconds=_SECONDS)
        deadline = time.monotonic() + _SECONDS
        while "deployments" in (found := outcome_of(space.cluster, space.namespace, name, space.pods)).children:
            assert time.monotonic() < deadline, f"the services of {name} still exist"
            time.sleep(0.2)
    assert list(found.pods.values()) == [1] * ATTEMPTS, found.pods
    return found, numbered_writes(injector.writes(name), name)


def kill_every_write_once(
    space: CrashNamespace, expected: RoundOutcome, writes: Sequence[Write], kills_per_round: int = 1
) -> list[History]:
    """Kill the operators of rounds side by side, so that each of the ``writes`` of a round is followed by a kill.

    ``kills_per_round``: more of them need fewer rounds.
    """
    rounds = -(-len(writes) // kills_per_round)
    kill_after = {f"killed-{n:03}": writes[n::rounds] for n in range(rounds)}
    injector = CrashInjector(kill_after)
    histories = []
    with space.kubelet(), space.operator(injector):
        space.create_rounds(*kill_after)
        for name in kill_after:
            differences = (*space.differences(name, expected), *_created_twice(injector.writes(name)))
            histories.append(History("in process", name, tuple(injector.killed(name)), differences))
    return histories


def kill_after_every_write(space: CrashNamespace, expected: RoundOutcome, folder: Path) -> History:
    """Kill an operator process after each of its writes, until the round has the outcome ``expected`` or time is up."""
    name = "killed-process"
    writes: list[AnsweredWrite] = []

    def after_write(write: AnsweredWrite) -> bool:
        writes.append(write)
        operator.kill()
        return False

    with space.kubelet(), Proxy(space.bed.kubeconfig, folder, after_write) as proxy:
        space.create_rounds(name)
        with OperatorProcess(proxy.kubeconfig, space.namespace, folder=folder, settings=space.settings) as operator:
            differences = ["it has not ended"]
            began = quiet = time.monotonic()
            while differences and time.monotonic() < began + _SECONDS:
                time.sleep(0.05)
                if not operator.running:
                    operator.restart()
                    quiet = time.monotonic()
                elif time.monotonic() > quiet + _QUIET_SECONDS:
                    differences = outcome_of(space.cluster, space.namespace, name, space.pods).differences(expected)
                    quiet = time.monotonic()
    return History("process", name, tuple(numbered_writes(writes, name)), (*differences, *_created_twice(writes)))


def _created_twice(writes: Sequence[AnsweredWrite]) -> list[str]:
    """Return one line for each object that was created more than once."""
    created = [(w.kind, w.name) for w in writes if w.method == "POST" and w.code < 300]
    return [
        f"{kind} {name} was created again"
        for kind, name in sorted({each for each in created if created.count(each) > 1})
    ]


def _behaviour(pod: Pod) -> Behaviour:
    """Let stages succeed with results that do not depend on the round's name: the names of services contain their digests."""
    if (stage := stage_of(pod)) is None:
        return Run()
    digest = hashlib.sha256(stage.encode()).hexdigest()
    manifest = f"rounds/{NAME_PLACEHOLDER}/{stage}/0/manifest.json"
    return Run(seconds=0.2, message=json.dumps({"manifest": manifest, "digest": digest, "metrics": METRICS}))


def table(histories: Sequence[History]) -> Table:
    """Return one row per kill."""
    found = Table("operator", "round", "killed after", "of", "outcome")
    for history in histories:
        outcome = "same" if not history.differences else "; ".join(history.differences)
        for kill in history.kills:
            turn = f" ({kill.turn})" if kill.turn > 1 else ""
            found.add_row(history.operator, history.round, f"{kill.method} {kill.kind}{turn}", kill.name, outcome)
    return found


def _plain(history: History) -> list[dict[str, Any]]:
    common = {"operator": history.operator, "round": history.round, "differences": list(history.differences)}
    return [{**common, "killed_after": asdict(kill)} for kill in history.kills]


def main(
    kills_per_round: Annotated[int, typer.Option(min=1, help="More kills in a round need fewer rounds.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Kill the operator after every write of a round, and print how each round ended."""
    configure_logs("operator", logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch, Testbed.start(Path(scratch) / "bed", minio=False) as bed:
        install_crds(bed)
        bed.kubectl("create", "namespace", "crashes")
        install_prerequisites(bed, "crashes")
        space = CrashNamespace(bed, "crashes")
        expected, writes = undisturbed(space)
        histories = kill_every_write_once(space, expected, writes, kills_per_round)
        histories.append(kill_after_every_write(space, expected, Path(scratch)))
    different = [history for history in histories if history.differences]
    if as_json:
        print(json.dumps(list(itertools.chain.from_iterable(map(_plain, histories)))))
    else:
        console = Console(width=max(Console().width, _WIDTH))
        console.print(table(histories))
        kills = sum(len(history.kills) for history in histories)
        console.print(f"{kills} kills in {len(histories)} rounds, {len(different)} of which ended differently.")
    sys.exit(bool(different))


if __name__ == "__main__":
    typer.run(main)
