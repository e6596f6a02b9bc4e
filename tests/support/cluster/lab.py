"""A namespace in which rounds run under the chart's operator, and the script that its pods play.

The operator is the real one, with the rights and the configuration that ``charts/rstar`` gives it. The module judges
nothing but that: an operator that asked for what its role does not allow fails the tests that ran under it.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.kubelet import Behaviour, ChooseBehaviour, Kubelet, Pod

from rstar.cluster.api import EVENTS, PODS, PYTORCH_JOBS, ROUNDS, Json, Kind
from rstar.cluster.names import ATTEMPT, COMPONENT, ROUND, STAGE
from rstar.rounds.status import RoundStatus
from tests.support.cluster.operating import furnish, going_well, look, operator_in_process, round_body, wait_for_round
from tests.support.cluster.pods import until
from tests.support.paths import ROOT

CHART = ROOT / "charts" / "rstar"
WORDS = {
    "round": ROUND,
    "stage": STAGE,
    "attempt": ATTEMPT,
    "component": COMPONENT,
    "worker": "training.kubeflow.org/replica-index",
}


@dataclass
class Script:
    """What pods do: all goes well, but where a line says otherwise; of several lines that fit, the last one counts."""

    well: ChooseBehaviour = field(default_factory=going_well)
    lines: list[tuple[dict[str, str], Behaviour]] = field(default_factory=list)

    def on(self, play: Behaviour, **labels: str) -> None:
        """Have pods of this round, stage, attempt or component play ``play`` from now on."""
        self.lines.append(({WORDS[word]: value for word, value in labels.items()}, play))

    def __call__(self, pod: Pod) -> Behaviour:
        """Answer the kubelet."""
        labels = pod["metadata"].get("labels", {})
        fit = [play for wanted, play in self.lines if wanted.items() <= labels.items()]
        return fit[-1] if fit else self.well(pod)


class Lab:
    """One namespace, as its people see it."""

    def __init__(self, bed: Testbed, namespace: str, script: Script, kubelet: Kubelet) -> None:
        self.bed = bed
        self.namespace = namespace
        self.script = script
        self.kubelet = kubelet
        self.api = look(bed)

    def kubectl(self, *words: str, input: str | None = None) -> str:
        """Run kubectl in the namespace, as a cluster admin."""
        return self.bed.kubectl("-n", self.namespace, *words, input=input)

    def submit(self, name: str, number: int = 1, **spec: Any) -> Json:
        """Make a round; ``spec`` adds to the usual one, or replaces parts."""
        return self.api.create(ROUNDS, self.namespace, round_body(name, number, **spec))

    def edit(self, name: str, **spec: Any) -> None:
        """Change a round's spec as a user does."""
        self.kubectl("patch", "er", name, "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def once(self, name: str, done: Callable[[RoundStatus], bool], seconds: float = 120) -> RoundStatus:
        """Return the round's status as soon as ``done`` says so."""
        return wait_for_round(self.api, self.namespace, name, done, seconds)

    def ready_is(self, name: str, reason: str, words: str = "", seconds: float = 120) -> RoundStatus:
        """Return the status once the condition Ready has this reason, and these words in its message."""

        def told(status: RoundStatus) -> bool:
            ready = status.condition("Ready")
            return ready is not None and ready.reason == reason and words in ready.message

        return self.once(name, told, seconds)

    def succeeds(self, name: str, seconds: float = 120) -> RoundStatus:
        """Return the status of a round that is complete."""
        return self.once(name, lambda status: status.phase == "Succeeded", seconds)

    def fails(self, name: str, reason: str, words: str = "", seconds: float = 120) -> RoundStatus:
        """Return the status of a round that has failed for this reason."""
        status = self.ready_is(name, reason, words, seconds)
        assert status.phase == "Failed"
        return status

    def runs(self, name: str, stage: str, attempt: int = 1) -> RoundStatus:
        """Return the status once this attempt of a stage runs."""
        wanted = (stage, attempt, "running")
        return self.once(name, lambda status: wanted in [(r.stage, r.number, r.state) for r in status.attempts])

    def get(self, kind: Kind, name: str) -> Json | None:
        """Return an object, if it is there."""
        return self.api.get(kind, self.namespace, name)

    def there(self, kind: Kind, name: str, *, other_than: str = "") -> Json:
        """Return an object once it is there, and not the one of this uid."""

        def found() -> Json | None:
            body = self.get(kind, name)
            return body if body is not None and body["metadata"]["uid"] != other_than else None

        body: Json = self.becomes(found, f"{kind.plural} {name}")
        return body

    def gone(self, kind: Kind, name: str) -> None:
        """Wait until there is no such object."""
        self.becomes(lambda: self.get(kind, name) is None, f"no {kind.plural} {name}")

    def of(self, kind: Kind, name: str = "", **labels: str) -> list[Json]:
        """Return the objects of a round ('': of all rounds) with these labels."""
        wanted = {WORDS[word]: value for word, value in labels.items()} | ({ROUND: name} if name else {})
        selector = ",".join([ROUND, *(f"{key}={value}" for key, value in wanted.items())])
        return self.api.list(kind, self.namespace, selector)

    def names(self, kind: Kind, name: str = "", **labels: str) -> list[str]:
        """Return the names of the same, in order."""
        return sorted(body["metadata"]["name"] for body in self.of(kind, name, **labels))

    def becomes(self, look_at: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        """Return what ``look_at`` returns, once it is true."""
        return until(look_at, f"{what} in {self.namespace}", seconds)

    def pod(self, name: str, stage: str, attempt: int = 1) -> Pod:
        """Return the pod of an attempt once it is there."""
        labels = {"stage": stage, "attempt": str(attempt)}
        return self.becomes(lambda: self.of(PODS, name, **labels), f"a pod of {name} {labels}")[0]  # type: ignore[no-any-return]

    def live_pods(self, name: str) -> list[Pod]:
        """Return the pods of a round that hold compute: those that have not ended."""
        return [pod for pod in self.of(PODS, name) if pod["status"]["phase"] not in {"Succeeded", "Failed"}]

    def released(self, name: str) -> None:
        """Wait until no pod of the round holds compute."""
        self.becomes(lambda: not self.live_pods(name), f"no running pod of {name}")

    def jobs(self, name: str) -> list[str]:
        """Return the names of a round's attempts that are there."""
        return self.names(PYTORCH_JOBS, name)

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return (reason, message) of all Events about a round."""
        found = [e for e in self.api.list(EVENTS, self.namespace) if e["involvedObject"]["name"] == name]
        return [(e["reason"], e["message"]) for e in found if e["involvedObject"]["kind"] == "EvolutionRound"]

    def columns(self, name: str, *words: str) -> dict[str, str]:
        """Return what ``kubectl get er`` prints of a round, by column."""
        head, row = self.kubectl("get", "er", name, *words).splitlines()
        starts = [found.start() for found in re.finditer(r"\S+( \S+)*", head)]
        ends = [*starts[1:], None]
        return {head[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def name_of_namespace() -> str:
    """Return a new name."""
    return f"lab-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def open_lab(bed: Testbed, *, executor: bool = True) -> Iterator[Lab]:
    """Make a namespace with what rounds need there and a node that plays its pods; all of it goes in the end."""
    namespace, script = name_of_namespace(), Script()
    bed.kubectl("create", "namespace", namespace)
    try:
        furnish(bed, namespace, executor=executor)
        with Kubelet(bed.kubeconfig, script, namespace=namespace) as kubelet:
            yield Lab(bed, namespace, script, kubelet)
    finally:
        bed.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


@contextlib.contextmanager
def chart_operator(bed: Testbed, *values: str) -> Iterator[str]:
    """Install the chart for the whole cluster and run its operator, with its rights, as the service account of the chart."""
    namespace = name_of_namespace()
    bed.kubectl("create", "namespace", namespace)
    options = ["--set=executor.enabled=false,networkPolicies.enabled=false", *values]
    # The CRD stays when a chart goes, so that one of an earlier test may be there.
    bed.helm("install", "rstar", str(CHART), "-n", namespace, "--take-ownership", *options)
    bed.kubectl("wait", "--for=condition=Established", "crd/evolutionrounds.rstar.dev", "--timeout=60s")
    settings = yaml.safe_load(
        bed.kubectl("get", "configmap", "rstar-operator", "-n", namespace, "-o", r"jsonpath={.data.config\.yaml}")
    )
    kubeconfig = bed.service_account_kubeconfig(namespace, "rstar-operator")
    user = f"system:serviceaccount:{namespace}:rstar-operator"
    try:
        with operator_in_process(kubeconfig, settings=settings):
            yield user
    finally:
        bed.helm("uninstall", "rstar", "-n", namespace)
        bed.kubectl("delete", "namespace", namespace, "--wait=false")
    assert forbidden(bed, user) == []


def audited(bed: Testbed, user: str) -> Iterator[Json]:
    """Yield the API server's notes of a user's requests; of a watch there is one at its start and one at its end."""
    # A long one is cut, and goes on in another file.
    for log in sorted((bed.folder / "logs").glob("audit*.jsonl")):
        with log.open() as lines:
            for line in lines:
                if f'"username":"{user}"' in line and line.endswith("\n"):
                    yield json.loads(line)


def forbidden(bed: Testbed, user: str) -> list[str]:
    """Return the requests that the user's roles did not allow; what a quota or a dying namespace refuses is not among them."""
    decision = "authorization.k8s.io/decision"
    notes = [note for note in audited(bed, user) if note.get("annotations", {}).get(decision) == "forbid"]
    return [f"{note['verb']} {note['requestURI']}" for note in notes]
