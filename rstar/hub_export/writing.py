"""Writes an export: tables and checkpoints with verified digests, then ``export.json``, and the card last.

A folder with a card is whole. After a kill the same command continues: files that are there with the right digest stay.
A file of the store that is missing or does not match its manifest is named and left out; a checkpoint needs all of its.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from rstar.hub_export.plan import CHECKPOINT, DATA, ExportPlan, ModelExport, Source, TableShard
from rstar.hub_export.tables import exported_paths, exported_schema, rows_of, write_shard
from rstar.store.atomic import TEMPORARY, atomic_write
from rstar.store.digests import file_digest, files_of
from rstar.store.store import Store

CARD: Final = "README.md"
RECORD: Final = "export.json"
"""What the folder holds, by sha256, and what it was made from. It also marks a folder that this command may change."""

Notify = Callable[[str], None]


class ExportError(Exception):
    """The export cannot be written; the message is one sentence."""


@dataclass
class Written:
    """What an export wrote. ``rows``: by configuration, round and split. ``left_out``: one sentence per file."""

    folders: list[str] = field(default_factory=list)
    rows: dict[tuple[str, str, str], int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def write_tables(store: Store, plan: ExportPlan, out: Path, notify: Notify, written: Written) -> None:
    """Write the tables of the data set. Raises ``ExportError`` and ``StoreError``."""
    folder = out / DATA
    begin(folder)
    schemas: dict[str, pa.Schema] = {}
    # The last round's tables decide the columns: earlier code may have written fewer.
    for shard in reversed(plan.tables):
        paths = exported_paths(shard)
        if (there := exported_schema(shard, folder)) is not None:
            schemas.setdefault(shard.config, there)
        else:
            try:
                with _fetched(store, shard.source, folder) as source:
                    schemas[shard.config] = write_shard(source, shard, folder, schemas.get(shard.config))
            except ValueError as error:
                written.left_out.append(str(error))
                notify(f"left out: {error}")
                for path in paths.values():
                    (folder / path).unlink(missing_ok=True)
                continue
        _count_rows(folder, shard, paths, written)
    written.folders.append(DATA)


def _count_rows(folder: Path, shard: TableShard, paths: Mapping[str, str], written: Written) -> None:
    for split, path in paths.items():
        key = (shard.config, shard.round, split or path.rpartition("/")[2].partition("-")[0])
        written.rows[key] = written.rows.get(key, 0) + rows_of(folder / path)


def write_model(store: Store, model: ModelExport, out: Path, notify: Notify, written: Written) -> bool:
    """Write a checkpoint's folder; return whether it is whole. Raises ``ExportError`` and ``StoreError``."""
    folder = out / model.folder
    begin(folder)
    for source in model.files:
        target = folder / source.output.path.removeprefix(CHECKPOINT)
        if target.is_file() and file_digest(target) == source.output.sha256:
            continue
        try:
            with _fetched(store, source, folder) as fetched:
                target.parent.mkdir(parents=True, exist_ok=True)
                fetched.replace(target)
        except ValueError as error:
            written.left_out.append(f"{error}: so {model.folder} is left out")
            notify(f"left out: {written.left_out[-1]}")
            shutil.rmtree(folder)
            return False
    written.folders.append(model.folder)
    return True


def begin(folder: Path) -> None:
    """Make the folder, or take one that an earlier export made. Raises ``ExportError`` for any other."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise ExportError(f"{folder} holds other files: choose another --out, or empty it")
    try:
        # A folder without a card is not whole, until it is written again at the end.
        (folder / CARD).unlink(missing_ok=True)
        if not (folder / RECORD).is_file():
            with atomic_write(folder / RECORD) as file:
                file.write(b"{}\n")
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror}") from None


def complete(folder: Path, keep: Iterable[str], card: str, lineage: Mapping[str, Any]) -> None:
    """Remove what an earlier export left, and write ``export.json`` and the card."""
    kept = {*keep, RECORD}
    for name, path in files_of(folder):
        # The hub's client keeps its own state in a folder that it has uploaded.
        if name not in kept and not name.startswith(".cache/"):
            path.unlink()
    files = {
        name: {"sha256": file_digest(folder / name), "size": (folder / name).stat().st_size}
        for name in sorted(kept - {RECORD})
    }
    with atomic_write(folder / RECORD) as file:
        file.write(json.dumps({"files": files, **lineage}, indent=1, sort_keys=True).encode() + b"\n")
    with atomic_write(folder / CARD) as file:
        file.write(card.encode())


@contextmanager
def _fetched(store: Store, source: Source, folder: Path) -> Iterator[Path]:
    """Give a verified copy of a file of the store, beside its target. Raises ``ValueError`` when it does not match."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder) as scratch:
        path = Path(scratch) / "file"
        try:
            store.download(source.key, path)
        except KeyError:
            raise ValueError(f"{source.key} is not in the store, although its manifest lists it") from None
        if file_digest(path) != source.output.sha256:
            raise ValueError(f"{source.key} does not match its manifest")
        yield path
