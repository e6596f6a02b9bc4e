"""Finished searches of ``rstar evaluate`` in a folder, so that an interrupted evaluation continues.

``FOLDER/<16 hex digits>/<16 hex digits>.parquet`` are tables of trees (docs/formats.md). The first digits are of all that a
search depends on besides its problem, so other settings or another model are other searches; the second are of the table.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rstar.interfaces import Sampling, State
from rstar.rounds.manifest import canonical, digest_of
from rstar.store.digests import file_digest
from rstar.store.folder_store import FolderStore
from rstar.store.store import StoreError
from rstar.store.tables import read_trees, write_trees

if TYPE_CHECKING:
    from rstar.problem import Problem
    from rstar.record import SearchRecord
    from rstar.sdk.models import ModelClients

PERIOD_SECONDS: Final = 10.0
"""Time between two tables: what a killed evaluation loses at most, besides the searches that were running."""

_SUFFIX: Final = ".parquet"


class KeptSearches:
    """The searches with the same ``identity``. A failed one is not kept: it is searched again."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Read what is there; a table that cannot be read is left out, with a warning."""
        self._store = FolderStore(folder)
        self._name = digest_of(canonical(identity))[:16]
        self._new: list[tuple[Problem, SearchRecord]] = []
        self._stored_at = time.monotonic()
        self._kept: dict[str, tuple[Problem, SearchRecord]] = {}
        for key in self._store.list(f"{self._name}/"):
            if not key.endswith(_SUFFIX):
                continue
            try:
                rows = read_trees(self._store.path(key))
            except (ValueError, OSError) as error:
                _warn(f"{self._store.path(key)} is left out, and its problems are searched again: {error}")
                continue
            self._kept |= {problem.id: (problem, record) for problem, record in rows}

    def get(self, problem: Problem) -> SearchRecord | None:
        """Return the search of the problem with the same id and question; None if there is none."""
        problem_before, record = self._kept.get(problem.id, (None, None))
        return record if problem_before is not None and problem_before.question == problem.question else None

    def add(self, problem: Problem, record: SearchRecord) -> None:
        """Keep a finished search: it is stored within ``PERIOD_SECONDS`` of further ones, or by ``store``."""
        if record.error:
            return
        self._new.append((problem, record))
        if time.monotonic() - self._stored_at >= PERIOD_SECONDS:
            self.store()

    def store(self) -> None:
        """Store the new searches. A warning names what cannot be stored, which is tried again with the next ones."""
        self._stored_at = time.monotonic()
        if not self._new:
            return
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"searches{_SUFFIX}"
                write_trees(path, self._new)
                self._store.upload(f"{self._name}/{file_digest(path)[:16]}{_SUFFIX}", path)
        except (StoreError, OSError) as error:
            _warn(f"searches are not kept yet: {error}")
        else:
            self._new.clear()


def _warn(text: str) -> None:
    print(f"rstar: {text}", file=sys.stderr, flush=True)


async def model_digests(models: ModelClients) -> dict[str, str]:
    """Return the digests of the models behind ``models``, which only their answers have: asks for one token and one score."""
    state = State("digest", "1 + 1 = ?")
    digests = {"policy": (await models.policy.propose(state, 1, Sampling(max_new_tokens=1), 0)).model_digest}
    if models.ppm is not None:
        digests["ppm"] = (await models.ppm.score(state, ["1"])).model_digest
    return digests
