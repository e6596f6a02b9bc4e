"""Files of a stage as bytes that match its manifest, and the trees in them."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.report.data import ROLLOUT
from rstar.report.stages import StageFolder
from rstar.rounds.observed import Stage
from rstar.store.store import Store
from rstar.store.tables import read_trees

PARQUET: Final = ".parquet"
RESULTS: Final = "results.parquet"


def read_checked(store: Store, folder: StageFolder, path: str) -> bytes:
    """Return a file of a stage. Raises ``KeyError``, ``OSError``, ``StoreError``, or ``ValueError`` when it is damaged."""
    data = store.read(f"{folder.prefix}/{path}")
    expected = folder.sha256(path)
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise ValueError("its content differs from its manifest: was it changed or damaged?")
    return data


def tree_shards(folder: StageFolder) -> list[tuple[str, str]]:
    """Return (source, path) of the trees of a stage; the source is ``rollout`` or an evaluation method."""
    paths = folder.files(PARQUET, below="trees/")
    if folder.stage is Stage.ROLLOUT:
        return [(ROLLOUT, path) for path in paths]
    return [(path.removeprefix("trees/").rpartition("/")[0], path) for path in paths]


def trees_in(data: bytes) -> list[tuple[Problem, SearchRecord]]:
    """Return the rows of a trees table. Raises as ``read_trees``."""
    with tempfile.NamedTemporaryFile(suffix=PARQUET) as file:
        file.write(data)
        file.flush()
        return read_trees(Path(file.name))
