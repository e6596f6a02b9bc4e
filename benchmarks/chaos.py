"""Faults at random times during four rounds on a real node: ``python -m benchmarks.chaos [--seed 1] [--every 20] [--json]``.

Runs four small rounds of the Game of 24 for one tenant undisturbed, then the same rounds for another tenant while pods of
every kind are deleted and killed, and the object store, the API server and the node are restarted. Both must succeed with the
same lineage: the same stages, inputs and sources, every file as its manifest describes it. No attempt may exist twice.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import CommandError
from rstar_testbed.node.images import Builder, report_to_stderr

from benchmarks.chaos_faults import Cluster, Deck, Made
from rstar.cluster.api import DEPLOYMENTS, PYTORCH_JOBS, ROUNDS, ClusterError
from rstar.cluster.names import ROUND, STAGE
from rstar.rounds.manifest import digest_of, read_manifest
from rstar.rounds.observed import STAGES
from rstar.rounds.status import AttemptStatus, RoundStatus
from rstar.store.store import Store
from tests.support.cluster import tiny_rounds
from tests.support.cluster.lab import IMAGES, SMALL, Lab, Tenant, fill_store, lab
from tests.support.cluster.rounds import status_of

FILES: Final = ("models/base", "data/train.jsonl", "data/held-out.jsonl")
LIFECYCLE: Final = {"maxAttempts": 100, "backoffSeconds": 1}
"""Many attempts: a killed stage counts like one that is out of memory, and here that is no reason to give up."""
LONGEST_SECONDS: Final = 7_200.0


@dataclass
class Chain:
    """What was seen of a chain of rounds. ``twice``: attempts that existed twice, at once or one after the other."""

    seconds: float = 0.0
    phases: dict[str, str] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    made: list[Made] = field(default_factory=list)
    twice: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Lineage:
    """The origin of every manifest of a store: by "round stage", the stages and sources that it was made from.

    ``digests``: of the manifests. ``faults``: sentences on files and inputs that are not as the manifests describe them.
    """

    origins: dict[str, dict[str, str]]
    digests: dict[str, str]
    faults: tuple[str, ...]


def lineage(store: Store) -> Lineage:
    """Read every manifest of a store, with the digests of all files that they list."""
    keys = [key for key in store.list("rounds/") if key.endswith("/manifest.json")]
    contents = {key: store.read(key) for key in keys}
    manifests = {key: read_manifest(data, key) for key, data in contents.items()}
    names = {key: f"{manifest.round} {manifest.stage}" for key, manifest in manifests.items()}
    faults = [f"{name} has {count} manifests" for name, count in Counter(names.values()).items() if count > 1]
    origins: dict[str, dict[str, str]] = {}
    for key, manifest in manifests.items():
        inputs = {name: names.get(ref.key, "nothing") for name, ref in manifest.inputs.items()}
        origins[names[key]] = {**inputs, **manifest.sources}
        for name, ref in manifest.inputs.items():
            if ref.key not in contents or digest_of(contents[ref.key]) != ref.digest:
                faults.append(f"{names[key]}: input {name} is not the manifest {ref.key} of the store")
        folder = key.removesuffix("manifest.json")
        faults += [
            f"{names[key]}: {output.path} is not the file of its manifest"
            for output in manifest.outputs
            if digest_of(store.read(folder + output.path)) != output.sha256
        ]
    digests = {names[key]: digest_of(data) for key, data in contents.items()}
    return Lineage(origins, digests, tuple(faults))


def faults_of(undisturbed: Lineage, disturbed: Lineage, chain: Chain) -> list[str]:
    """Return what must not be, as sentences; [] when the disturbed chain has the same lineage and nothing twice."""
    faults = [f"round {name} ended {phase}" for name, phase in chain.phases.items() if phase != "Succeeded"]
    faults += [f"undisturbed: {fault}" for fault in undisturbed.faults]
    faults += disturbed.faults
    for name in sorted(undisturbed.origins.keys() | disturbed.origins.keys()):
        if undisturbed.origins.get(name) != disturbed.origins.get(name):
            faults.append(f"{name} has other inputs or sources than undisturbed")
    faults += [f"attempt {name} existed twice" for name in sorted(chain.twice)]
    faults += [f"{name} was left behind" for name in chain.left]
    return faults


class Watch:
    """Observes a tenant's chain until all its rounds have ended."""

    def __init__(self, tenant: Tenant, names: list[str]) -> None:
        self._tenant = tenant
        self._names = names
        self._jobs: dict[str, set[str]] = {}
        self.chain = Chain()

    def look(self) -> bool:
        """Record the present state and return whether every round has ended. Raises ``ClusterError`` while the API server is down."""
        api, namespace = self._tenant.api, self._tenant.namespace
        live = Counter[str]()
        for job in api.list(PYTORCH_JOBS, namespace):
            name, labels = job["metadata"]["name"], job["metadata"]["labels"]
            uids = self._jobs.setdefault(name, set())
            uids.add(job["metadata"]["uid"])
            ended = {each["type"] for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"}
            if not ended & {"Succeeded", "Failed"} and "deletionTimestamp" not in job["metadata"]:
                live[f"{labels[ROUND]} {labels[STAGE]}"] += 1
        self.chain.twice |= {name for name, uids in self._jobs.items() if len(uids) > 1}
        self.chain.twice |= {name for name, count in live.items() if count > 1}
        found = {body["metadata"]["name"]: status_of(body) for body in api.list(ROUNDS, namespace)}
        statuses = {name: status for name in self._names if (status := found.get(name))}
        self.chain.phases = {name: statuses[name].phase if name in statuses else "" for name in self._names}
        self.chain.attempts = attempts_of(statuses)
        return all(phase in {"Succeeded", "Failed"} for phase in self.chain.phases.values())

    def remains(self) -> list[str]:
        """Return the Deployments of rounds that exist although every round has ended."""
        found = self._tenant.api.list(DEPLOYMENTS, self._tenant.namespace, ROUND)
        return [f"Deployment {body['metadata']['name']}" for body in found]


def attempts_of(statuses: dict[str, RoundStatus]) -> Counter[str]:
    """Count the attempts of all rounds by their outcome."""
    return Counter(_outcome(attempt) for status in statuses.values() for attempt in status.attempts)


def _outcome(attempt: AttemptStatus) -> str:
    if attempt.state != "failed":
        return attempt.state
    code = "pod gone" if attempt.exit_code is None else f"exit code {attempt.exit_code}"
    return f"failed ({attempt.ending or code})"


def run_chain(made: Lab, tenant: Tenant, rounds: Path, deck: Deck | None, every: float) -> Chain:
    """Apply the rounds and watch them to their end; with a ``deck`` faults come, a mean of ``every`` seconds apart."""
    names = [body["metadata"]["name"] for body in yaml.safe_load_all(rounds.read_text())]
    tenant.kubectl("apply", "-f", str(rounds))
    watch, cluster = Watch(tenant, names), Cluster(made.bed, (made.admin, tenant.namespace))
    start = time.monotonic()
    next_fault = start + deck.pause(every) if deck else None
    while not _answered(watch.look) and time.monotonic() - start < LONGEST_SECONDS:
        if deck and next_fault is not None and time.monotonic() >= next_fault:
            at = time.monotonic() - start
            try:
                fault, victim = cluster.make(deck)
            except CommandError as error:  # The API server's answer when it has just come back.
                report_to_stderr(f"no fault: {error}")
            else:
                watch.chain.made.append(Made(at, fault, victim))
                report_to_stderr(f"{at:.0f} s: {fault.kind} {fault.method} ({victim}); {watch.chain.phases}")
            next_fault = time.monotonic() + deck.pause(every)
        time.sleep(0.5)
    watch.chain.seconds = time.monotonic() - start
    until = time.monotonic() + 60
    while (left := watch.remains()) and time.monotonic() < until:
        time.sleep(1)
    watch.chain.left = left
    return watch.chain


def _answered(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except ClusterError:
        return False


def prepare(folder: Path) -> tuple[Path, Path]:
    """Make the rounds' file and the files that they read; return both places."""
    store, rounds = folder / "store", folder / "rounds.yaml"
    bodies = tiny_rounds.tiny_rounds(4)
    for body in bodies:
        body["spec"] |= {"cluster": {"resources": SMALL}, "lifecycle": LIFECYCLE}
    rounds.write_text(yaml.safe_dump_all(bodies))
    tiny_rounds.make_games(store)
    if code := tiny_rounds.start_base_model(store).wait():
        raise subprocess.CalledProcessError(code, "examples/game24/pretrain.py")
    return store, rounds


def report_of(undisturbed: Chain, disturbed: Chain, lineages: tuple[Lineage, Lineage]) -> dict[str, Any]:
    """Return the figures of the report."""
    before, after = lineages
    equal = sum(after.digests.get(name) == digest for name, digest in before.digests.items())
    return {
        "faults_made": len(disturbed.made),
        "minutes_undisturbed": round(undisturbed.seconds / 60, 1),
        "minutes": round(disturbed.seconds / 60, 1),
        "attempts_undisturbed": dict(undisturbed.attempts),
        "attempts": dict(disturbed.attempts),
        "manifests": len(after.digests),
        "expected_manifests": len(STAGES) * 4,
        "manifests_equal_byte_for_byte": equal,
        "wrong": faults_of(before, after, disturbed),
    }


def print_report(report: dict[str, Any], made: list[Made]) -> None:
    """Print what was killed and what it cost."""
    methods = sorted({each.fault.method for each in made})
    counts = Counter((each.fault.kind, each.fault.method) for each in made)
    table = Table("killed", *methods)
    for kind in dict.fromkeys(each.fault.kind for each in sorted(made, key=lambda each: each.fault.kind)):
        table.add_row(kind, *(str(counts[kind, method] or "") for method in methods))
    figures = Table("figure", "value")
    for key, value in report.items():
        figures.add_row(key.replace("_", " "), str(value))
    Console().print(table, figures)


def main(
    seed: Annotated[int, typer.Option(help="Seed of the faults and their times.")] = 1,
    every: Annotated[float, typer.Option(min=1.0, help="Mean seconds between two faults.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every fault.")] = False,
) -> None:
    """Run both chains; exit code 1 when the disturbed one differs in lineage, failed, or left something behind."""
    with tempfile.TemporaryDirectory() as name, Testbed.start(Path(name, "bed"), node=True) as bed:
        folder = Path(name)
        store, rounds = prepare(folder)
        builder = Builder(report_to_stderr)
        builder.build(IMAGES)
        assert bed.node is not None
        images = {image: builder.push(image, bed.node.registry.address, "chaos") for image in IMAGES}
        chains: list[Chain] = []
        lineages: list[Lineage] = []
        with lab(bed, images) as made:
            for deck in (None, Deck(seed)):
                tenant = made.add_tenant()
                made.install_executors(tenant)
                filled = fill_store(tenant, store, FILES)
                chains.append(run_chain(made, tenant, rounds, deck, every))
                lineages.append(lineage(filled))
                bed.helm("uninstall", "rstar", "-n", tenant.namespace)
    report = report_of(chains[0], chains[1], (lineages[0], lineages[1]))
    faults = chains[1].made
    if as_json:
        print(json.dumps({**report, "faults": [asdict(each) for each in faults]}))
    else:
        print_report(report, faults)
    raise typer.Exit(1 if report["wrong"] else 0)


if __name__ == "__main__":
    typer.run(main)
