"""``rstar.Rounds``: rounds of a store or a namespace from a program, as the commands see them.

    rounds = Rounds("out/game24")            # or Rounds("s3://..."), or Rounds(namespace="lab")
    rounds.submit("rounds.yaml")
    for status in rounds.watch("r1"):
        print(status.phase, status.stage, status.progress_text)
    for method in rounds["r1"].results():
        print(method.name, method.accuracy, method.tokens)

Methods block; in asynchronous code call them with ``asyncio.to_thread``.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from rstar.locations.attempts import select_attempts
from rstar.locations.choose import open_namespace_location, open_store_location
from rstar.locations.errors import RoundsError, RoundsInputError, UnknownRoundError, WaitTimeoutError
from rstar.locations.location import ChangeResult, Location, LogLine, LogOptions, ServiceName, find_round
from rstar.sdk.results import Artefact, EvaluationResults, ModelName, StoredRound, default_cache

if TYPE_CHECKING:
    from rstar.problem import Problem
    from rstar.record import SearchRecord
    from rstar.rounds.status import RoundStatus
    from rstar.selection import PairGroup, SftExample

DEFAULT_STORE: Final = "rstar-store"
WATCH_SECONDS: Final = 2.0
_MAX_FAILURES: Final = 15
"""Reads in a row that may fail before a watch gives up."""

Submitted = str | Path | Mapping[str, Any]
"""A YAML file, or the content of one document."""

log = logging.getLogger(__name__)


class Rounds:
    """The rounds of a store, or of a namespace of a cluster.

    ``store``: a folder or ``s3://BUCKET/PREFIX``, by default RSTAR_STORE or ``rstar-store``. Of a bucket, these are the
    rounds that ran on this machine, from the current folder.
    ``namespace``, ``context``, ``kubeconfig``: a cluster instead, as for the commands. There ``store`` is needed only where
    the Secret that names the namespace's store may not be read, or names an address that cannot be reached from here.
    ``cache``: where checkpoints from buckets are kept. Every method raises ``RoundsError``; ``RoundsInputError``, which is a
    ``ValueError``, where the request is wrong.
    """

    def __init__(
        self,
        store: str | Path | None = None,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | Path | None = None,
        cache: str | Path | None = None,
    ) -> None:
        for name, given in (("store", store), ("kubeconfig", kubeconfig), ("cache", cache)):
            if given is not None and not isinstance(given, str | Path):
                raise RoundsInputError(f"{name} is a path or a URI, not {given!r}")
        self._location: Location
        if namespace is None and context is None and kubeconfig is None:
            self._location = open_store_location(str(store or os.environ.get("RSTAR_STORE") or DEFAULT_STORE))
        else:
            config = None if kubeconfig is None else Path(kubeconfig)
            self._location = open_namespace_location(namespace, context, config, None if store is None else str(store))
        self._cache = default_cache() if cache is None else Path(cache)

    def __repr__(self) -> str:
        return f"<Rounds of {self._location.description}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("round", "phase", "stage", "progress", "message"))
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{escape(str(t or ''))}</td>" for t in (n, s.phase, s.stage, s.progress_text, s.message))
            + "</tr>"
            for n, s in self.statuses().items()
        )
        return f"<table><tr>{head}</tr>{rows}</table>"

    def submit(self, *what: Submitted) -> dict[str, str]:
        """Submit YAML files, or documents as dicts; return created, configured, unchanged or started for each round.

        All are checked before anything starts. On this machine a driver is started in the background, and outlives this
        program. Local paths in documents are relative to the current folder.
        """
        if not what:
            raise RoundsInputError("name a YAML file, or give a document")
        with TemporaryDirectory(prefix="rstar-") as folder:
            files = [_file(one, Path(folder, f"{number}.yaml")) for number, one in enumerate(what)]
            try:
                return self._location.submit(files, log.info)
            except RoundsError as error:
                # A document has no file and no lines that its author knows.
                text = re.sub(rf"{re.escape(folder)}/\d+\.yaml(:\d+)?: ", "", str(error))
                raise type(error)(text) from None

    def statuses(self) -> dict[str, RoundStatus]:
        """Return the status of every round by name, ordered by number."""
        return self._location.rounds()

    def list(self) -> Sequence[Round]:
        """Return every round, ordered by number."""
        return [Round(name, self._location, self._cache) for name in self.statuses()]

    def __iter__(self) -> Iterator[Round]:
        return iter(self.list())

    def __contains__(self, name: object) -> bool:
        return name in self.statuses()

    def __getitem__(self, name: str) -> Round:
        """Return one round. Raises ``UnknownRoundError`` (a ``LookupError``) that names the nearest."""
        find_round(self._location, name, self.statuses())
        return Round(name, self._location, self._cache)

    def watch(self, name: str, *, timeout: float | None = None) -> Iterator[RoundStatus]:
        """Yield the status of a round now and after every change, until the round has ended: see ``Round.watch``."""
        return self[name].watch(timeout=timeout)

    def wait(self, name: str, timeout: float | None = None) -> RoundStatus:
        """Wait until a round has ended, and return its last status: see ``Round.wait``."""
        return self[name].wait(timeout)

    def suspend(self, name: str) -> ChangeResult:
        """Release all compute of a round until it is resumed."""
        return self._location.suspend(name)

    def resume(self, name: str) -> ChangeResult:
        """Resume a suspended round."""
        return self._location.resume(name)

    def cancel(self, name: str) -> ChangeResult:
        """End a round permanently; the output of finished stages is kept."""
        return self._location.cancel(name)


class Round:
    """One round: its status, what can be done with it, and what it has made. Made by ``Rounds``."""

    def __init__(self, name: str, location: Location, cache: Path) -> None:
        self.name = name
        self._location = location
        self._cache = cache

    def __repr__(self) -> str:
        return f"<Round {self.name} of {self._location.description}>"

    @property
    def status(self) -> RoundStatus:
        """The status now."""
        return find_round(self._location, self.name, self._location.rounds())

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics of every finished stage, by stage."""
        return {stage.name: stage.metrics for stage in self.status.stages if stage.output is not None}

    def watch(self, *, timeout: float | None = None, every: float = WATCH_SECONDS) -> Iterator[RoundStatus]:
        """Yield the status now and after every change, until the round has ended; it is read ``every`` so many seconds.

        A store or a cluster that does not answer for a moment is asked again. Raises ``WaitTimeoutError`` after ``timeout``
        seconds, and ``RoundsError`` when no driver is running that could end the round.
        """
        from rstar.rounds.evolution import has_ended

        until = None if timeout is None else time.monotonic() + timeout
        shown: RoundStatus | None = None
        failures = 0
        while True:
            try:
                # Asked first: a driver that ends after it has written the last status.
                driven = self._location.is_driven()
                status = self.status
                failures = 0
            except RoundsInputError:
                raise
            except RoundsError:
                failures += 1
                if shown is None or failures > _MAX_FAILURES:
                    raise
            else:
                if status != shown:
                    shown = status
                    yield status
                if has_ended(status):
                    return
                if not driven:
                    raise RoundsError(
                        f"round {self.name} has not ended ({status.message}), and no driver is running in "
                        f"{self._location.description}: submit it again to continue it"
                    )
            left = every if until is None else until - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(f"round {self.name} has not ended within {timeout:g} s; it goes on")
            time.sleep(min(every, left))

    def wait(self, timeout: float | None = None) -> RoundStatus:
        """Wait until the round has ended, and return its last status; ``phase`` tells how. Raises as ``watch``."""
        *_, last = self.watch(timeout=timeout)
        return last

    def suspend(self) -> ChangeResult:
        """Release all compute of the round until it is resumed."""
        return self._location.suspend(self.name)

    def resume(self) -> ChangeResult:
        """Resume the round."""
        return self._location.resume(self.name)

    def cancel(self) -> ChangeResult:
        """End the round permanently; the output of finished stages is kept."""
        return self._location.cancel(self.name)

    def logs(
        self,
        stage: str | None = None,
        *,
        attempt: int | None = None,
        service: ServiceName | None = None,
        follow: bool = False,
        last: int | None = None,
    ) -> Iterator[LogLine]:
        """Yield the lines of a log: of the latest attempt of the stage that started last, of another one, or of a service.

        ``follow``: wait for new lines until the attempt or the service has ended; ``last``: only so many existing lines.
        """
        if service is not None and (stage is not None or attempt is not None):
            raise RoundsInputError("give a service, or a stage and an attempt, not both")
        options = LogOptions(follow=follow, last=last, notify=log.info)
        try:
            if service is not None:
                yield from self._location.service_log(self.name, service, options, every=False)
                return
            status = self.status
            found = select_attempts(status, stage, attempt)
            if not found:
                what = f"stage {stage}" if stage else "any stage"
                raise RoundsError(f"round {self.name} has not started {what}: {status.message}")
            yield from self._location.attempt_log(self.name, found[-1], options)
        except UnknownRoundError:
            raise
        except LookupError as error:
            raise RoundsError(str(error)) from None

    def trees(self, of: str = "rollout") -> Iterator[tuple[Problem, SearchRecord]]:
        """Yield the searches of the rollout, or of one method of the evaluation by its name, without loading all."""
        return self._stored().trees(of)

    def examples(self) -> Iterator[SftExample]:
        """Yield the examples that the round's policy is trained on."""
        return self._stored().examples()

    def pairs(self, split: str = "train") -> Iterator[PairGroup]:
        """Yield the preference pairs of the ``split`` train or held_out."""
        return self._stored().pairs(split)

    def results(self) -> EvaluationResults:
        """Return the evaluation: a summary per method, and a result per method and problem."""
        return self._stored().results()

    def checkpoint(self, model: ModelName = "policy") -> Path:
        """Return the folder of the trained ``policy`` or ``ppm``; from a bucket it is downloaded once, into the cache."""
        return self._stored().checkpoint(model)

    def lineage(self) -> tuple[Artefact, ...]:
        """Return the finished stages of this round and of the earlier ones that they were made of, the latest first."""
        return self._stored().lineage()

    def _stored(self) -> StoredRound:
        return StoredRound(self.name, self.status, self._location.artefacts(self.name), self._cache)


def _file(given: Submitted, place: Path) -> Path:
    """Return the YAML file; a document is written to ``place``."""
    if isinstance(given, str | Path):
        return Path(given)
    if not isinstance(given, Mapping):
        raise RoundsInputError(f"submit takes YAML files or documents as dicts, not {type(given).__name__}")
    import yaml

    try:
        place.write_text(yaml.safe_dump(dict(given)), encoding="utf-8")
    except (yaml.YAMLError, UnicodeEncodeError):
        raise RoundsInputError("a document holds plain data only: texts, numbers, lists and dicts") from None
    return place
