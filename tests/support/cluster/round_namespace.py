"""A namespace with rounds, under an operator that already runs: create rounds, script their pods, wait for statuses."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Behaviour, ChooseBehaviour, Kubelet, Pod

from rstar.cluster.api import EVENTS, PODS, PYTORCH_JOBS, ROUNDS, Json, Kind
from rstar.cluster.names import ATTEMPT, COMPONENT, ROUND, STAGE
from rstar.rounds.status import RoundStatus
from tests.support.cluster.pods import SECONDS, wait_until
from tests.support.cluster.releases import new_name
from tests.support.cluster.rounds import admin_client, all_succeed, install_prerequisites, round_body, wait_for_round

LABELS = {
    "round": ROUND,
    "stage": STAGE,
    "attempt": ATTEMPT,
    "component": COMPONENT,
    "worker": "training.kubeflow.org/replica-index",
    "node": "batch.kubernetes.io/job-completion-index",
}


@dataclass
class PodScript:
    """The behaviour of pods: all succeed, except those that match a rule; the last rule that matches counts."""

    otherwise: ChooseBehaviour = field(default_factory=all_succeed)
    rules: list[tuple[dict[str, str], Behaviour]] = field(default_factory=list)

    def set(self, behaviour: Behaviour, **labels: str) -> None:
        """Set the behaviour of later pods of this round, stage, attempt, component, or worker (in a TrainJob, node)."""
        self.rules.append(({LABELS[word]: value for word, value in labels.items()}, behaviour))

    def __call__(self, pod: Pod) -> Behaviour:
        """Return the behaviour of a pod, for the kubelet."""
        labels = pod["metadata"].get("labels", {})
        matching = [behaviour for wanted, behaviour in self.rules if wanted.items() <= labels.items()]
        return matching[-1] if matching else self.otherwise(pod)


class RoundNamespace:
    """One namespace, as its users see it. ``job_kind``: what runs the attempts."""

    def __init__(
        self, bed: Testbed, namespace: str, script: PodScript, kubelet: Kubelet, job_kind: Kind = PYTORCH_JOBS
    ) -> None:
        self.job_kind = job_kind
        self.bed = bed
        self.namespace = namespace
        self.script = script
        self.kubelet = kubelet
        self.api = admin_client(bed)

    def kubectl(self, *words: str, input: str | None = None) -> str:
        """Run kubectl in the namespace, as a cluster admin."""
        return self.bed.kubectl("-n", self.namespace, *words, input=input)

    def submit(self, name: str, number: int = 1, **spec: Any) -> Json:
        """Create a round; ``spec`` adds to the usual one, or replaces parts."""
        return self.api.create(ROUNDS, self.namespace, round_body(name, number, **spec))

    def edit(self, name: str, **spec: Any) -> None:
        """Change a round's spec as a user does."""
        self.kubectl("patch", "er", name, "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def wait_for(self, name: str, done: Callable[[RoundStatus], bool], seconds: float = SECONDS) -> RoundStatus:
        """Return the round's status once ``done`` holds."""
        return wait_for_round(self.api, self.namespace, name, done, seconds)

    def wait_for_reason(self, name: str, reason: str, text: str = "", seconds: float = SECONDS) -> RoundStatus:
        """Return the status once the condition Ready has this reason, and this text in its message."""

        def matches(status: RoundStatus) -> bool:
            ready = status.condition("Ready")
            return ready is not None and ready.reason == reason and text in ready.message

        return self.wait_for(name, matches, seconds)

    def wait_for_success(self, name: str, seconds: float = SECONDS) -> RoundStatus:
        """Return the status once the round has succeeded."""
        return self.wait_for(name, lambda status: status.phase == "Succeeded", seconds)

    def wait_for_failure(self, name: str, reason: str, text: str = "", seconds: float = SECONDS) -> RoundStatus:
        """Return the status once the round has failed for this reason."""
        status = self.wait_for_reason(name, reason, text, seconds)
        assert status.phase == "Failed"
        return status

    def wait_for_running(self, name: str, stage: str, attempt: int = 1) -> RoundStatus:
        """Return the status once this attempt of a stage runs."""
        wanted = (stage, attempt, "running")
        return self.wait_for(name, lambda status: wanted in [(r.stage, r.number, r.state) for r in status.attempts])

    def get(self, kind: Kind, name: str) -> Json | None:
        """Return an object, if it exists."""
        return self.api.get(kind, self.namespace, name)

    def wait_for_object(self, kind: Kind, name: str, *, other_than: str = "") -> Json:
        """Return an object once it exists, with another uid than ``other_than``."""

        def found() -> Json | None:
            body = self.get(kind, name)
            return body if body is not None and body["metadata"]["uid"] != other_than else None

        body: Json = self.wait_until(found, f"{kind.plural} {name}")
        return body

    def wait_until_gone(self, kind: Kind, name: str) -> None:
        """Wait until there is no such object."""
        self.wait_until(lambda: self.get(kind, name) is None, f"no {kind.plural} {name}")

    def list_objects(self, kind: Kind, name: str = "", **labels: str) -> list[Json]:
        """Return the objects of a round ('': of all rounds) with these labels."""
        wanted = {LABELS[word]: value for word, value in labels.items()} | ({ROUND: name} if name else {})
        selector = ",".join([ROUND, *(f"{key}={value}" for key, value in wanted.items())])
        return self.api.list(kind, self.namespace, selector)

    def names(self, kind: Kind, name: str = "", **labels: str) -> list[str]:
        """Return the names of these objects, sorted."""
        return sorted(body["metadata"]["name"] for body in self.list_objects(kind, name, **labels))

    def wait_until(self, look: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """Return what ``look`` returns, once it is true."""
        return wait_until(look, f"{what} in {self.namespace}", seconds)

    def wait_for_pod(self, name: str, stage: str, attempt: int = 1) -> Pod:
        """Return the pod of an attempt once it exists."""
        labels = {"stage": stage, "attempt": str(attempt)}
        return self.wait_until(lambda: self.list_objects(PODS, name, **labels), f"a pod of {name} {labels}")[0]  # type: ignore[no-any-return]

    def live_pods(self, name: str) -> list[Pod]:
        """Return the pods of a round that have not ended, and so hold compute."""
        return [pod for pod in self.list_objects(PODS, name) if pod["status"]["phase"] not in {"Succeeded", "Failed"}]

    def wait_until_released(self, name: str) -> None:
        """Wait until no pod of the round holds compute."""
        self.wait_until(lambda: not self.live_pods(name), f"no running pod of {name}")

    def jobs(self, name: str) -> list[str]:
        """Return the names of a round's attempts that exist as jobs."""
        return self.names(self.job_kind, name)

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return (reason, message) of all Events about a round."""
        found = [e for e in self.api.list(EVENTS, self.namespace) if e["involvedObject"]["name"] == name]
        return [(e["reason"], e["message"]) for e in found if e["involvedObject"]["kind"] == "EvolutionRound"]

    def columns(self, name: str, *options: str) -> dict[str, str]:
        """Return what ``kubectl get er`` prints of a round, by column."""
        head, row = self.kubectl("get", "er", name, *options).splitlines()
        starts = [found.start() for found in re.finditer(r"\S+( \S+)*", head)]
        ends = [*starts[1:], None]
        return {head[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


@contextlib.contextmanager
def new_round_namespace(
    bed: Testbed, *, executor: bool = True, job_kind: Kind = PYTORCH_JOBS
) -> Iterator[RoundNamespace]:
    """Create a namespace with the objects that rounds need and a kubelet for its pods; delete both at the end."""
    namespace, script = new_name("lab"), PodScript()
    bed.kubectl("create", "namespace", namespace)
    try:
        install_prerequisites(bed, namespace, executor=executor)
        with Kubelet(bed.kubeconfig, script, namespace=namespace) as kubelet:
            yield RoundNamespace(bed, namespace, script, kubelet, job_kind)
    finally:
        bed.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")
