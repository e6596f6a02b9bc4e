"""Rounds in a namespace of a cluster: EvolutionRound objects, and the logs of their pods.

It reads and changes the objects only; the operator creates and deletes pods.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rstar.cluster.api import EVOLUTIONS, RETRY_SECONDS, Cluster, ClusterError, Json
from rstar.cluster.api_errors import explain_error, is_transient
from rstar.cluster.default_namespace import default_namespace
from rstar.cluster.evolutions import evolution_inputs, evolution_submission, rounds_without
from rstar.cluster.inputs import Input, local_paths, namespace_store, upload, with_store_uris
from rstar.cluster.names import ATTEMPT, COMPONENT, ROUND, STAGE, STAGE_CONTAINERS
from rstar.cluster.pod_logs import Line, PodLogs
from rstar.cluster.rounds import NOT_YET, NamespacedRounds, number_of, status_of, submission
from rstar.locations.errors import RoundsError, RoundsInputError
from rstar.locations.location import (
    AttemptName,
    ChangeResult,
    LogLine,
    LogOptions,
    ServiceName,
    find_round,
    made_by_other_code,
)
from rstar.locations.rounds_files import checked_rounds, parsed_rounds
from rstar.locations.stores import opened_store
from rstar.rounds.cluster_spec import ClusterSpec
from rstar.rounds.load import parse_evolutions
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.status import RoundStatus
from rstar.store.store import Store, StoreError

VIEW, EDIT = "view", "edit"
"""Kubernetes' own roles for reading and for changing; charts/rstar adds EvolutionRounds to both."""


def connect_namespace(
    namespace: str | None, context: str | None, kubeconfig: Path | None, upload_to: str | None = None
) -> NamespaceLocation:
    """Connect to a cluster. Raises ``RoundsError`` when no cluster is configured."""
    try:
        cluster = Cluster.connect(kubeconfig, context, retry_seconds=RETRY_SECONDS)
        chosen = namespace or default_namespace(kubeconfig, context)
    except ClusterError as error:
        raise RoundsInputError(str(error)) from None
    given = {"--context": context, "--kubeconfig": kubeconfig}
    options = [f"-n {chosen}", *(f"{option} {value}" for option, value in given.items() if value is not None)]
    return NamespaceLocation(cluster, chosen, " ".join(options), upload_to)


class NamespaceLocation:
    """The rounds of ``namespace``.

    ``upload_to``: the store for local files of submitted rounds; None: the store that the namespace's Secret names.
    """

    def __init__(self, cluster: Cluster, namespace: str, options: str, upload_to: str | None) -> None:
        self.description = f"namespace {namespace}"
        self.options = options
        self._cluster = cluster
        self._namespace = namespace
        self._rounds = NamespacedRounds(cluster, namespace)
        self._upload_to = upload_to

    def rounds(self) -> dict[str, RoundStatus]:
        """Return the statuses that the operator wrote."""
        with self._explained_refusals(VIEW):
            found = self._rounds.all()
        try:
            return {name: status_of(item) for name, item in found.items()}
        except ValueError as error:
            raise RoundsError(str(error)) from None

    def store(self) -> Store:
        """Open the store that the rounds' Secret names; RSTAR_S3_ENDPOINT overrides its address."""
        with self._explained_refusals(VIEW):
            found = self._rounds.all().values()
        secrets = {_storage_secret(item) for item in found}
        if len(secrets) > 1:
            raise RoundsInputError(
                f"the rounds of {self.description} are in several stores (Secrets {', '.join(sorted(secrets))}): give "
                "--store s3://BUCKET/PREFIX of one, without -n"
            )
        return self._opened(secrets.pop() if secrets else ClusterSpec().storage_secret)

    def notes(self, shown: Mapping[str, RoundStatus]) -> list[str]:
        """Return a note about the rounds that no operator has seen yet."""
        idle = [name for name, status in shown.items() if status.message == NOT_YET]
        notes = [f"no operator has seen {', '.join(idle)} yet: is one running for {self.description}?"] if idle else []
        for evolution in self._evolutions():
            status = evolution.get("status") or {}
            done = f" ({status['roundsText']} rounds)" if "roundsText" in status else ""
            notes.append(f"evolution {evolution['metadata']['name']}{done}: {status.get('message', NOT_YET)}")
        return notes + made_by_other_code(shown, lambda *_: "to make it again, submit the round under another name")

    def makes_rounds(self) -> bool:
        """Return whether an evolution of the namespace has not ended."""
        phases = [(evolution.get("status") or {}).get("phase") for evolution in self._evolutions()]
        return any(phase not in {"Succeeded", "Failed"} for phase in phases)

    def is_driven(self) -> bool:
        """Return True: whether an operator is running cannot be seen from here."""
        return True

    def artefacts(self, name: str) -> Store:
        """Open ``upload_to``, or else the store that the round's Secret names."""
        item, _ = self._one(name)
        return self._opened(_storage_secret(item))

    def _opened(self, secret: str) -> Store:
        if self._upload_to is not None:
            return opened_store(self._upload_to)
        try:
            return namespace_store(self._cluster, self._namespace, secret, os.environ)
        except (ClusterError, ValueError, StoreError) as error:
            kind = RoundsError if isinstance(error, StoreError) else RoundsInputError
            raise kind(
                f"the store of {self.description} cannot be opened: {error}; a store with another address outside the "
                "cluster needs RSTAR_S3_ENDPOINT; without the right to read the Secret name the store instead, "
                "s3://BUCKET/PREFIX, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
            ) from None

    def submit(self, files: Sequence[Path], notify: Callable[[str], None]) -> dict[str, str]:
        """Create or change the rounds and evolutions, once a dry run has shown that the cluster accepts all of them."""
        parsed = parsed_rounds(files)
        evolutions = [one for file in files for one in parse_evolutions(file)]
        heads: list[tuple[str, object]] = [(f"round {item.name}", item.metadata) for item in parsed]
        heads += [(f"evolution {item.name}", item.metadata) for item in evolutions]
        for what, metadata in heads:
            namespace = getattr(metadata, "namespace", None)
            if namespace not in {None, self._namespace}:
                raise RoundsInputError(f"{what}: metadata.namespace is {namespace}, not {self._namespace}")
        with self._explained_refusals(VIEW):
            existing = self._rounds.all()
            existing_evolutions = {one.name: self._rounds.evolution(one.name) for one in evolutions}
        store = self._store(parsed)
        lookup_store = store if self._upload_to is not None else None
        numbers = {name: number_of(item) for name, item in existing.items()}
        checked = checked_rounds(files, lookup_store, numbers.get)
        known: dict[str, Input] = {}
        with_inputs = [with_store_uris(item, known) for item in rounds_without(evolutions, checked)]
        try:
            with_inputs_of_evolutions = [evolution_inputs(one, known) for one in evolutions]
            submissions = [submission(item, existing.get(item.name), self._namespace) for item, _ in with_inputs]
            submissions += [
                evolution_submission(one, existing_evolutions[one.name], self._namespace)
                for one, _ in with_inputs_of_evolutions
            ]
        except ValueError as error:
            raise RoundsInputError(str(error)) from None
        with self._explained_refusals(EDIT):
            for planned in submissions:
                self._rounds.submit(planned, dry_run=True)
        if store is not None:
            uploads = [inputs for _, inputs in (*with_inputs, *with_inputs_of_evolutions)]
            try:
                upload([item for inputs in uploads for item in inputs], store, notify)
            except StoreError as error:
                raise RoundsError(str(error)) from None
        with self._explained_refusals(EDIT):
            for planned in submissions:
                self._rounds.submit(planned)
        return {planned.name: planned.verb for planned in submissions}

    def suspend(self, name: str) -> ChangeResult:
        """Set ``spec.suspend``."""
        if (evolution := self._evolution(name)) is not None:
            return self._change_evolution(evolution, suspend=True)
        item, status = self._one(name)
        if item["spec"].get("suspend"):
            return ChangeResult(False, f"round {name} is suspended already")
        if status.phase in {"Succeeded", "Failed"}:
            raise RoundsInputError(f"round {name} has ended ({status.message}): there is nothing to suspend")
        self._set(name, suspend=True)
        return ChangeResult(
            True,
            f"round {name} is being suspended: its compute is released and finished work is kept; "
            f"'rstar resume {name} {self.options}' resumes it",
        )

    def resume(self, name: str) -> ChangeResult:
        """Unset ``spec.suspend``. Raises ``RoundsError`` with the remedy for a round that has failed or was cancelled."""
        if (evolution := self._evolution(name)) is not None:
            return self._change_evolution(evolution, suspend=False)
        item, status = self._one(name)
        suspended = bool(item["spec"].get("suspend"))
        if suspended:
            self._set(name, suspend=False)
        if status.phase == "Failed" or item["spec"].get("cancel"):
            raise RoundsError(f"round {name} cannot be resumed: {_why_not_resumable(item, status)}")
        return ChangeResult(suspended, f"round {name} {'is resumed' if suspended else 'is not suspended'}")

    def cancel(self, name: str) -> ChangeResult:
        """Set ``spec.cancel``."""
        if (evolution := self._evolution(name)) is not None:
            return self._change_evolution(evolution, cancel=True)
        item, status = self._one(name)
        if item["spec"].get("cancel"):
            return ChangeResult(False, f"round {name} is cancelled already")
        if status.phase == "Succeeded":
            raise RoundsInputError(f"round {name} is complete: there is nothing to cancel")
        self._set(name, cancel=True)
        return ChangeResult(True, f"round {name} is being cancelled: its compute is released and finished work is kept")

    def _evolutions(self) -> list[Json]:
        with self._explained_refusals(VIEW):
            return self._rounds.evolutions()

    def _evolution(self, name: str) -> Json | None:
        """Return the evolution of a name that no round has."""
        with self._explained_refusals(VIEW):
            return None if self._rounds.get(name) is not None else self._rounds.evolution(name)

    def _change_evolution(self, evolution: Json, **spec: bool) -> ChangeResult:
        """Set a field of an evolution's spec; the operator hands it down to the round at work."""
        name, [(key, value)] = evolution["metadata"]["name"], spec.items()
        phase = (evolution.get("status") or {}).get("phase")
        done = f"{key} is {str(value).lower()}"
        if evolution["spec"].get(key) is value:
            return ChangeResult(False, f"evolution {name}: {done} already")
        if phase in {"Succeeded", "Failed"} and value:
            raise RoundsInputError(f"evolution {name} has ended ({phase}): there is nothing to {key}")
        with self._explained_refusals(EDIT):
            self._rounds.set(name, EVOLUTIONS, **spec)
        return ChangeResult(True, f"evolution {name}: {done}; the operator hands it down to the round at work")

    def attempt_log(self, name: str, attempt: AttemptName, options: LogOptions) -> Iterator[LogLine]:
        """Read the logs of the attempt's pods."""
        labels = {ROUND: name, STAGE: attempt.stage, ATTEMPT: str(attempt.number)}

        def is_live() -> bool:
            attempts = self._one(name)[1].attempts
            known = next((a for a in attempts if (a.stage, a.number) == (attempt.stage, attempt.number)), None)
            return known is not None and known.state in {"pending", "running"}

        return self._lines(self._logs(labels, STAGE_CONTAINERS, options), options, is_live)

    def service_log(self, name: str, service: ServiceName, options: LogOptions, *, every: bool) -> Iterator[LogLine]:
        """Read the logs of a service's pods. Executors carry no round's label: all rounds of a namespace share them."""
        labels = {COMPONENT: service, **({} if service == "executor" else {ROUND: name})}

        def is_live() -> bool:
            return self._one(name)[1].phase in {"Waiting", "Running"}

        return self._lines(self._logs(labels, (service,), options), options, is_live)

    def _logs(self, labels: Mapping[str, str], containers: tuple[str, ...], options: LogOptions) -> PodLogs:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return PodLogs(self._cluster, self._namespace, selector, containers, options.notify)

    def _lines(self, logs: PodLogs, options: LogOptions, is_live: Callable[[], bool]) -> Iterator[LogLine]:
        with self._explained_refusals(VIEW):
            lines: Iterator[Line] = logs.follow(is_live, options.last) if options.follow else logs.read(options.last)
            for line in lines:
                yield LogLine(*line)

    def _one(self, name: str) -> tuple[Json, RoundStatus]:
        with self._explained_refusals(VIEW):
            item = self._rounds.get(name)
            if item is None:
                find_round(self, name, self.rounds())
                raise RoundsInputError(f"round {name} was deleted")
        try:
            return item, status_of(item)
        except ValueError as error:
            raise RoundsError(str(error)) from None

    def _set(self, name: str, **spec: Any) -> None:
        with self._explained_refusals(EDIT):
            self._rounds.set(name, **spec)

    def _store(self, rounds: Sequence[EvolutionRound]) -> Store | None:
        """Open the store for the local files of ``rounds``; None when they have no local files."""
        if self._upload_to is not None:
            return opened_store(self._upload_to)
        with_files = next((item for item in rounds if local_paths(item)), None)
        if with_files is None:
            return None
        try:
            return namespace_store(self._cluster, self._namespace, with_files.spec.cluster.storage_secret, os.environ)
        except (ClusterError, ValueError, StoreError) as error:
            raise RoundsInputError(
                f"{local_paths(with_files)[0]} is on this machine, and the store of {self.description} cannot be opened to "
                f"upload it: {error}; give --upload-to s3://BUCKET/PREFIX with RSTAR_S3_ENDPOINT, AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY in the environment, or name a file that is in the store already (store:PATH)"
            ) from None

    @contextmanager
    def _explained_refusals(self, role: str) -> Iterator[None]:
        """Turn a refusal of the cluster into a ``RoundsError``; ``role`` is the role that the request needs."""
        try:
            yield
        except ClusterError as error:
            kind = RoundsError if is_transient(error) else RoundsInputError
            raise kind(explain_error(error, self._namespace, role=role)) from None


def _storage_secret(item: Json) -> str:
    """Return the name of the Secret with a round's store; the API server fills in the default."""
    cluster = item["spec"].get("cluster") or {}
    return str(cluster.get("storageSecret") or ClusterSpec().storage_secret)


def _why_not_resumable(item: Json, status: RoundStatus) -> str:
    """Return why a round that has failed or was cancelled cannot be resumed, and the remedy."""
    if item["spec"].get("cancel"):
        return "it was cancelled permanently; submit it under another name"
    failed = status.condition("Failed")
    if failed is not None and failed.reason == "AttemptsExhausted":
        return f"{status.message}; fix that, raise spec.lifecycle.maxAttempts in its file and submit it again"
    return f"{status.message}; fix that and submit it under another name"
