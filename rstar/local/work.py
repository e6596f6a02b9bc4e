"""Where a driver keeps its journals and logs, and how other commands read them while it runs.

For a store in a folder that is ``STORE/.rstar``; for a bucket, ``.rstar/NAME`` in the current folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from rstar.local.journal import Journal
from rstar.local.stages import read_progress
from rstar.rounds.report import with_progress
from rstar.rounds.status import RoundStatus
from rstar.store.folder_store import FolderStore
from rstar.store.store import Store


def work_folder(store: Store) -> Path:
    """Return the work folder of a store."""
    if isinstance(store, FolderStore):
        return store.path(".rstar")
    return Path(".rstar") / re.sub(r"[^A-Za-z0-9._-]+", "-", store.uri).strip("-")


def round_status(work: Path, name: str) -> RoundStatus | None:
    """Return the last status of a round with its latest progress, or None when it never ran here."""
    journal = Journal(work / name)
    if journal.status is None:
        return None
    return with_progress(journal.status, read_progress(journal))


def round_names(work: Path) -> list[str]:
    """Return the names of the rounds that ran here, by their numbers."""
    journals = [Journal(path.parent) for path in work.glob("*/journal.json")]
    return [journal.folder.name for journal in sorted(journals, key=lambda j: (j.number or 0, j.folder.name))]
