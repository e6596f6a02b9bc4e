"""The crash-injection table: ``python -m tests.support.cluster.crashes [--json]``. Exit code 1 when an outcome differs.

An operator is killed after a write: the API server has answered, and nobody has heard it. Another one starts. The
round must end as it ends undisturbed: the same children, the same status, one pod per attempt. In one history the
operator is a process that is killed with SIGKILL after every single write, one after the other. In the others every
write of a round is killed once, while all else goes well. The module needs the testbed (``make test-cluster`` builds
it).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Behaviour, Kubelet, Pod, Run

from rstar.cluster.api import ROUNDS, Cluster
from rstar.rpc.logs import configure_logs
from tests.support.cluster.endings import NAME, Ending, PodBook, ending, settled
from tests.support.cluster.injection import Injection, Target, targets
from tests.support.cluster.operating import (
    METRICS,
    OperatorProcess,
    furnish,
    install_crd,
    look,
    operator_in_process,
    round_body,
    stage_of,
    wait_for_round,
)
from tests.support.cluster.proxy import Answered, Proxy

ATTEMPTS: Final = 5
_WIDTH: Final = 120

_PATIENCE: Final = 900.0
_REST: Final = 2.0
"""An operator that has not written for so long waits for something, or for nothing any more."""


@dataclass(frozen=True)
class History:
    """A round, the writes after which its operators were killed, and what then was not as undisturbed."""

    operator: str
    round: str
    kills: tuple[Target, ...]
    differences: tuple[str, ...]


class Scene:
    """A furnished namespace whose pods do well, the rounds in it, and how a round ends there undisturbed."""

    def __init__(self, bed: Testbed, namespace: str) -> None:
        self.bed = bed
        self.namespace = namespace
        self.cluster: Cluster = look(bed)
        self.book = PodBook(_play)

    def kubelet(self) -> Kubelet:
        """Return what plays the pods."""
        return Kubelet(self.bed.kubeconfig, self.book, namespace=self.namespace)

    def begin(self, *names: str) -> None:
        """Create rounds of number 1."""
        for name in names:
            self.cluster.create(ROUNDS, self.namespace, round_body(name))

    def differences(self, name: str, like: Ending) -> tuple[str, ...]:
        """Return what is not as in ``like`` once the round has ended."""
        wait_for_round(self.cluster, self.namespace, name, seconds=_PATIENCE)
        return tuple(settled(self.cluster, self.namespace, name, self.book, like))


def undisturbed(scene: Scene, name: str = "calm") -> tuple[Ending, list[Target]]:
    """Return how a round ends whose operator lives, and what was written on the way."""
    injection = Injection()
    with scene.kubelet(), operator_in_process(scene.bed.kubeconfig, scene.namespace, reconciling=injection):
        scene.begin(name)
        wait_for_round(scene.cluster, scene.namespace, name, seconds=_PATIENCE)
        until = time.monotonic() + _PATIENCE
        while "deployments" in (found := ending(scene.cluster, scene.namespace, name, scene.book)).children:
            assert time.monotonic() < until, f"the services of {name} stay"
            time.sleep(0.2)
    assert list(found.pods.values()) == [1] * ATTEMPTS, found.pods
    return found, targets(injection.writes(name), name)


def kill_every_write_once(
    scene: Scene, like: Ending, writes: Sequence[Target], kills_per_round: int = 1
) -> list[History]:
    """Kill the operators of rounds side by side, so that each of the ``writes`` of a round is followed by a kill.

    ``kills_per_round``: more of them need fewer rounds.
    """
    rounds = -(-len(writes) // kills_per_round)
    kill_after = {f"killed-{n:03}": writes[n::rounds] for n in range(rounds)}
    injection = Injection(kill_after)
    histories = []
    with scene.kubelet(), operator_in_process(scene.bed.kubeconfig, scene.namespace, reconciling=injection):
        scene.begin(*kill_after)
        for name in kill_after:
            differences = (*scene.differences(name, like), *_twice(injection.writes(name)))
            histories.append(History("in process", name, tuple(injection.killed(name)), differences))
    return histories


def kill_after_every_write(scene: Scene, like: Ending, folder: Path) -> History:
    """Kill a real operator process after each of its writes until the round has ended as in ``like``, or never does."""
    name = "hunted"
    writes: list[Answered] = []

    def after_write(write: Answered) -> bool:
        writes.append(write)
        operator.kill()
        return False

    with scene.kubelet(), Proxy(scene.bed.kubeconfig, folder, after_write) as proxy:
        scene.begin(name)
        with OperatorProcess(proxy.kubeconfig, scene.namespace, folder=folder) as operator:
            differences = ["it never ended"]
            began = quiet = time.monotonic()
            while differences and time.monotonic() < began + _PATIENCE:
                time.sleep(0.05)
                if not operator.running:
                    operator.restart()
                    quiet = time.monotonic()
                elif time.monotonic() > quiet + _REST:
                    differences = ending(scene.cluster, scene.namespace, name, scene.book).differences(like)
                    quiet = time.monotonic()
    return History("process", name, tuple(targets(writes, name)), (*differences, *_twice(writes)))


def _twice(writes: Sequence[Answered]) -> list[str]:
    """Return what was made more than once."""
    made = [(w.kind, w.name) for w in writes if w.method == "POST" and w.code < 300]
    return [
        f"{kind} {name} was created again" for kind, name in sorted({each for each in made if made.count(each) > 1})
    ]


def _play(pod: Pod) -> Behaviour:
    """Do well, and leave what does not depend on the round's name: services are named by what they serve."""
    if (stage := stage_of(pod)) is None:
        return Run()
    digest = hashlib.sha256(stage.encode()).hexdigest()
    manifest = f"rounds/{NAME}/{stage}/0/manifest.json"
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
    told = {"operator": history.operator, "round": history.round, "differences": list(history.differences)}
    return [{**told, "killed_after": asdict(kill)} for kill in history.kills]


def main(
    kills_per_round: Annotated[int, typer.Option(min=1, help="More kills in a round need fewer rounds.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Kill the operator after every write of a round, and print what became of the round."""
    configure_logs("operator", logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch, Testbed.start(Path(scratch) / "bed", minio=False) as bed:
        install_crd(bed)
        bed.kubectl("create", "namespace", "crashes")
        furnish(bed, "crashes")
        scene = Scene(bed, "crashes")
        like, writes = undisturbed(scene)
        histories = kill_every_write_once(scene, like, writes, kills_per_round)
        histories.append(kill_after_every_write(scene, like, Path(scratch)))
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
