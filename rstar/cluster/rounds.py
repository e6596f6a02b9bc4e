"""Reads, submits and changes the EvolutionRounds of one namespace.

A submission is planned on plain data and can be tried without effect, so that a file of rounds is accepted as a whole
or not at all. An existing round is changed only where its meaning changes. The operator creates everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from rstar.cluster.api import EVOLUTIONS, ROUNDS, Cluster, ClusterError, Json, Kind, NotFoundError
from rstar.rounds.spec import EvolutionRound, EvolutionRoundSpec
from rstar.rounds.status import RoundStatus
from rstar.rounds.validation_errors import validation_messages

Verb = Literal["created", "configured", "unchanged"]

NOT_YET = "waits for an operator"
_NAMESPACES = Kind("/api/v1", "namespaces")


@dataclass(frozen=True, slots=True)
class Submission:
    """The request for one round or evolution of a file; ``body`` is the object or the merge patch."""

    name: str
    verb: Verb
    body: Json
    kind: Kind = ROUNDS


class NamespacedRounds:
    """The rounds of ``namespace``. Every method raises ``ClusterError`` when its request fails."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def all(self) -> dict[str, Json]:
        """Return every round by name, ordered by number. Raises ``NotFoundError`` also for a missing namespace."""
        found = self._cluster.list(ROUNDS, self.namespace)
        if not found:
            self._check_namespace()
        ordered = sorted(found, key=lambda item: (number_of(item) or 0, item["metadata"]["name"]))
        return {item["metadata"]["name"]: item for item in ordered}

    def get(self, name: str) -> Json | None:
        """Return one round, or None when it does not exist."""
        return self._cluster.get(ROUNDS, self.namespace, name)

    def evolutions(self) -> list[Json]:
        """Return every evolution, by name; none where the kind is not installed or may not be read."""
        try:
            return sorted(self._cluster.list(EVOLUTIONS, self.namespace), key=_name)
        except ClusterError as error:
            if error.code in {403, 404}:
                return []
            raise

    def evolution(self, name: str) -> Json | None:
        """Return one evolution, or None when it does not exist."""
        return self._cluster.get(EVOLUTIONS, self.namespace, name)

    def set(self, name: str, kind: Kind = ROUNDS, **spec: Any) -> None:
        """Set fields of the spec of a round, or of an evolution."""
        self._cluster.patch(kind, self.namespace, name, {"spec": spec})

    def submit(self, item: Submission, *, dry_run: bool = False) -> None:
        """Carry out one submission; ``dry_run``: only check that the cluster would accept it."""
        if item.verb == "created":
            self._cluster.create(item.kind, self.namespace, item.body, dry_run=dry_run)
        elif item.verb == "configured":
            self._cluster.patch(item.kind, self.namespace, item.name, item.body, dry_run=dry_run)

    def _check_namespace(self) -> None:
        """Raise ``NotFoundError`` for a missing namespace: its list is empty like that of an empty one."""
        try:
            exists = self._cluster.get(_NAMESPACES, "", self.namespace) is not None
        except ClusterError as error:
            if error.code != 403:
                raise
            exists = True  # without the right to read namespaces it is assumed
        if not exists:
            raise NotFoundError(f'namespaces "{self.namespace}" not found', 404, "NotFound")


def number_of(item: Json) -> int | None:
    """Return the number of a round."""
    number = item.get("spec", {}).get("round")
    return number if isinstance(number, int) else None


def status_of(item: Json) -> RoundStatus:
    """Return the status of a round; before an operator has seen it, the phase is Waiting.

    Unknown keys are dropped: the operator may be newer. Raises ``ValueError`` when the rest is not a status.
    """
    found = item.get("status") or {}
    if "phase" not in found:
        return RoundStatus(phase="Waiting", message=NOT_YET)
    try:
        return RoundStatus.model_validate(found, extra="ignore")
    except ValidationError as error:
        raise ValueError(
            f"the status of round {_name(item)} is not one: {validation_messages(error, RoundStatus)[0]}"
        ) from None


def submission(wanted: EvolutionRound, existing: Json | None, namespace: str) -> Submission:
    """Return the request for ``wanted``, given the ``existing`` object of its name.

    Values that ``rstar suspend`` and ``rstar cancel`` have set stay, unless the file sets them too. Raises
    ``ValueError`` when the object's spec cannot be compared.
    """
    metadata = wanted.metadata.model_dump(mode="json", exclude_unset=True)
    if existing is None:
        spec = wanted.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
        kind = {"apiVersion": wanted.api_version, "kind": wanted.kind}
        return Submission(
            wanted.name, "created", {**kind, "metadata": {**metadata, "namespace": namespace}, "spec": spec}
        )
    try:
        before = EvolutionRoundSpec.model_validate(existing["spec"], extra="ignore")
    except ValidationError as error:
        fault = validation_messages(error, EvolutionRoundSpec)[0]
        raise ValueError(f"round {wanted.name} exists, and its spec is not one of this version: {fault}") from None
    kept = {key: getattr(before, key) for key in ("suspend", "cancel") if key not in wanted.spec.model_fields_set}
    after = wanted.spec.model_copy(update=kept)
    # Compared with all defaults filled in: only a difference in meaning counts.
    patch = merge_patch(before.model_dump(mode="json", by_alias=True), after.model_dump(mode="json", by_alias=True))
    given = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    missing = {key: value for key, value in given.items() if not value.items() <= _entries(existing, key).items()}
    body = {**({"spec": patch} if patch else {}), **({"metadata": missing} if missing else {})}
    return Submission(wanted.name, "configured" if body else "unchanged", body)


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    """Return the smallest merge patch (RFC 7386) from ``before`` to ``after``; {} when they are equal."""
    patch: Json = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif isinstance(value, Mapping) and isinstance(before[key], Mapping):
            if inner := merge_patch(before[key], value):
                patch[key] = inner
        elif value != before[key]:
            patch[key] = value
    return patch


def _name(item: Json) -> str:
    return str(item["metadata"]["name"])


def _entries(item: Json, key: str) -> Mapping[str, Any]:
    entries: Mapping[str, Any] = item["metadata"].get(key) or {}
    return entries
