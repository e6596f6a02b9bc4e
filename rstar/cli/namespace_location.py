"""Rounds in a namespace of a cluster: their resources, and the logs of their pods.

An operator does what the resources say. The module refuses to make or end pods itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rstar.cli.errors import BAD_INPUT, FAILED, CommandError
from rstar.cli.location import AttemptName, LogLine, Reading, Said, ServiceName, found_round
from rstar.cli.options import opened_store
from rstar.cli.rounds_files import checked_rounds, parsed_rounds
from rstar.cluster.api import PATIENCE_SECONDS, Cluster, ClusterError, Json
from rstar.cluster.default_namespace import default_namespace
from rstar.cluster.inputs import in_store, local_paths, namespace_store, upload
from rstar.cluster.names import ATTEMPT, COMPONENT, ROUND, STAGE
from rstar.cluster.pod_logs import Line, PodLogs
from rstar.cluster.api_errors import explained, is_transient
from rstar.cluster.rounds import NOT_YET, NamespacedRounds, number_of, status_of, submission
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.status import RoundStatus
from rstar.store.store import Store, StoreError

VIEW, EDIT = "view", "edit"
"""Kubernetes' own roles, to which charts/rstar adds EvolutionRounds: who may look, and who may change."""

STAGE_CONTAINER = "pytorch"


def connected(
    namespace: str | None, context: str | None, kubeconfig: Path | None, upload_to: str | None = None
) -> NamespacePlace:
    """Connect to a cluster. Raises ``CommandError`` when there is none."""
    try:
        cluster = Cluster.connect(kubeconfig, context, patience=PATIENCE_SECONDS)
        chosen = namespace or default_namespace(kubeconfig, context)
    except ClusterError as error:
        raise CommandError(str(error)) from None
    given = {"--context": context, "--kubeconfig": kubeconfig}
    options = [f"-n {chosen}", *(f"{option} {value}" for option, value in given.items() if value is not None)]
    return NamespacePlace(cluster, chosen, " ".join(options), upload_to)


class NamespacePlace:
    """The rounds of ``namespace``. ``upload_to``: where submitted files go; unset: as the namespace's Secret says."""

    def __init__(self, cluster: Cluster, namespace: str, options: str, upload_to: str | None) -> None:
        self.words = f"namespace {namespace}"
        self.options = options
        self._cluster = cluster
        self._namespace = namespace
        self._rounds = NamespacedRounds(cluster, namespace)
        self._upload_to = upload_to

    def rounds(self) -> dict[str, RoundStatus]:
        """Return the statuses that operators wrote."""
        try:
            with self._told(VIEW):
                return {name: status_of(item) for name, item in self._rounds.all().items()}
        except ValueError as error:
            raise CommandError(str(error), FAILED) from None

    def notes(self, shown: Mapping[str, RoundStatus]) -> list[str]:
        """Say whether rounds wait for an operator."""
        idle = [name for name, status in shown.items() if status.message == NOT_YET]
        return [f"no operator has looked at {', '.join(idle)} yet: is one at work for {self.words}?"] if idle else []

    def submit(self, files: Sequence[Path], tell: Callable[[str], None]) -> dict[str, str]:
        """Create or change the rounds; nothing is created or uploaded before the cluster would take all of them."""
        written = parsed_rounds(files)
        for item in written:
            elsewhere = getattr(item.metadata, "namespace", None)
            if elsewhere not in {None, self._namespace}:
                raise CommandError(f"round {item.name}: metadata.namespace is {elsewhere}, not {self._namespace}")
        with self._told(VIEW):
            there = self._rounds.all()
        store = self._store(written)
        looked_up = store if self._upload_to is not None else None
        numbers = {name: number_of(item) for name, item in there.items()}
        moved = [in_store(item) for item in checked_rounds(files, looked_up, numbers.get)]
        try:
            wanted = [submission(item, there.get(item.name), self._namespace) for item, _ in moved]
        except ValueError as error:
            raise CommandError(str(error)) from None
        with self._told(EDIT):
            for planned in wanted:
                self._rounds.submit(planned, dry_run=True)
        if store is not None:
            try:
                upload([found for _, inputs in moved for found in inputs], store, tell)
            except StoreError as error:
                raise CommandError(str(error), FAILED) from None
        with self._told(EDIT):
            for planned in wanted:
                self._rounds.submit(planned)
        return {planned.name: planned.verb for planned in wanted}

    def suspend(self, name: str) -> Said:
        """Set ``spec.suspend``."""
        item, status = self._one(name)
        if item["spec"].get("suspend"):
            return Said(False, f"round {name} is suspended already")
        if status.phase in {"Succeeded", "Failed"}:
            raise CommandError(f"round {name} has ended ({status.message}): there is nothing to suspend")
        self._set(name, suspend=True)
        how = f"'rstar resume {name} {self.options}' goes on"
        return Said(True, f"round {name} is being suspended: its compute is released, finished work is kept; {how}")

    def resume(self, name: str) -> Said:
        """Unset ``spec.suspend``; say what else helps a round that failed."""
        item, status = self._one(name)
        suspended = bool(item["spec"].get("suspend"))
        if suspended:
            self._set(name, suspend=False)
        if status.phase == "Failed" or item["spec"].get("cancel"):
            raise CommandError(f"round {name} does not go on: {_obstacle(item, status)}", FAILED)
        return Said(suspended, f"round {name} {'goes on' if suspended else 'is not suspended'}")

    def cancel(self, name: str) -> Said:
        """Set ``spec.cancel``."""
        item, status = self._one(name)
        if item["spec"].get("cancel"):
            return Said(False, f"round {name} is cancelled already")
        if status.phase == "Succeeded":
            raise CommandError(f"round {name} is complete: there is nothing to cancel")
        self._set(name, cancel=True)
        return Said(True, f"round {name} is being cancelled: its compute is released, finished work is kept")

    def attempt_log(self, name: str, attempt: AttemptName, reading: Reading) -> Iterator[LogLine]:
        """Read the logs of the attempt's pods."""
        labels = {ROUND: name, STAGE: attempt.stage, ATTEMPT: str(attempt.number)}

        def live() -> bool:
            attempts = self._one(name)[1].attempts
            known = next((a for a in attempts if (a.stage, a.number) == (attempt.stage, attempt.number)), None)
            return known is not None and known.state in {"pending", "running"}

        return self._lines(self._logs(labels, STAGE_CONTAINER, reading), reading, live)

    def service_log(self, name: str, service: ServiceName, reading: Reading, *, every: bool) -> Iterator[LogLine]:
        """Read the logs of a service's pods; the executors are the namespace's, shared by all rounds."""
        labels = {COMPONENT: service, **({} if service == "executor" else {ROUND: name})}

        def live() -> bool:
            return self._one(name)[1].phase in {"Waiting", "Running"}

        return self._lines(self._logs(labels, service, reading), reading, live)

    def _logs(self, labels: Mapping[str, str], container: str, reading: Reading) -> PodLogs:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return PodLogs(self._cluster, self._namespace, selector, container, reading.tell)

    def _lines(self, logs: PodLogs, reading: Reading, live: Callable[[], bool]) -> Iterator[LogLine]:
        with self._told(VIEW):
            lines: Iterator[Line] = logs.follow(live, reading.last) if reading.follow else logs.read(reading.last)
            for line in lines:
                yield LogLine(*line)

    def _one(self, name: str) -> tuple[Json, RoundStatus]:
        with self._told(VIEW):
            item = self._rounds.get(name)
            if item is None:
                found_round(self, name, self.rounds())
                raise CommandError(f"round {name} is gone")
        try:
            return item, status_of(item)
        except ValueError as error:
            raise CommandError(str(error), FAILED) from None

    def _set(self, name: str, **spec: Any) -> None:
        with self._told(EDIT):
            self._rounds.set(name, **spec)

    def _store(self, rounds: Sequence[EvolutionRound]) -> Store | None:
        """Open the store that the files of ``rounds`` are uploaded to; None when there are none."""
        if self._upload_to is not None:
            return opened_store(self._upload_to)
        needing = next((item for item in rounds if local_paths(item)), None)
        if needing is None:
            return None
        try:
            return namespace_store(self._cluster, self._namespace, needing.spec.cluster.storage_secret, os.environ)
        except (ClusterError, ValueError, StoreError) as error:
            raise CommandError(
                f"{local_paths(needing)[0]} is on this machine, and the store of {self.words} cannot be opened to "
                f"upload it: {error}; give --upload-to s3://BUCKET/PREFIX with RSTAR_S3_ENDPOINT, AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY in the environment, or name what is in the store already (store:PATH)"
            ) from None

    @contextmanager
    def _told(self, role: str) -> Iterator[None]:
        """Tell the user what the cluster refuses."""
        try:
            yield
        except ClusterError as error:
            code = FAILED if is_transient(error) else BAD_INPUT
            raise CommandError(explained(error, self._namespace, role=role), code) from None


def _obstacle(item: Json, status: RoundStatus) -> str:
    """Say why a round that has failed or was cancelled does not go on, and what helps."""
    if item["spec"].get("cancel"):
        return "it was cancelled, for good; submit it under another name"
    failed = status.condition("Failed")
    if failed is not None and failed.reason == "AttemptsExhausted":
        return f"{status.message}; mend that, raise spec.lifecycle.maxAttempts in its file and submit it again"
    return f"{status.message}; mend that and submit it under another name"
