"""Rewrites a shard of a table for the data set: with its round, split by the column ``split``, in one schema per table.

The source's sha256 is in the file's metadata, so that a second export knows which files it has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rstar.hub_export.plan import TableShard
from rstar.store.atomic import atomic_write
from rstar.store.tables import PAIRS, SFT, TREES

SOURCE: Final = b"rstar.source_sha256"
ROWS: Final = b"rstar.rows"
"""Keys of a file's metadata. The rows by split tell a split without rows from one that was not written yet."""

SPLITS: Final = ("train", "held_out")
"""Of pairs. By problem: no problem is in both."""

_SCHEMAS: Final = {"sft": SFT, "pairs": PAIRS, "trees": TREES, "evaluation-trees": TREES}


def exported_paths(shard: TableShard) -> dict[str, str]:
    """Return the path of each exported file of a shard by its split, '' where all rows have one."""
    if "{split}" not in shard.path:
        return {"": shard.path}
    return {split: shard.path.replace("{split}", split) for split in SPLITS}


def exported_schema(shard: TableShard, folder: Path) -> pa.Schema | None:
    """Return the schema of a shard's exported files; None unless all were made of this very source."""
    found: pa.Schema | None = None
    counts: dict[str, int] = {}
    there = {}
    for split, path in exported_paths(shard).items():
        try:
            schema = pq.read_schema(folder / path)
        except (OSError, pa.ArrowInvalid):
            continue
        kept = schema.metadata or {}
        if kept.get(SOURCE) == shard.source.output.sha256.encode():
            found, counts = schema, json.loads(kept[ROWS])
            there[split] = True
    return found if all(split in there for split, count in counts.items() if count) else None


def write_shard(source: Path, shard: TableShard, folder: Path, schema: pa.Schema | None) -> pa.Schema:
    """Write the exported files of a shard, none without rows, which ``datasets`` could not read. Return the schema.

    ``schema``: of the same table's earlier shards: a column that this shard lacks is null. Raises ``ValueError`` for a
    file that is no such table.
    """
    try:
        table = pq.read_table(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{shard.source.key} is no Parquet table: {error}") from None
    wanted = _SCHEMAS.get(shard.config) or schema or table.schema
    columns = {name: table[name] for name in table.column_names}
    count = table.num_rows
    own = {"round": shard.round, **({"method": shard.method} if shard.method else {})}
    # Fields that were read from a file carry their numbers there, which would be stored again.
    wanted_fields = [field.remove_metadata() for field in wanted if field.name not in own]
    arrays = [pa.array([value] * count, pa.string()) for value in own.values()]
    try:
        arrays += [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(count, field.type)
            for field in wanted_fields
        ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{shard.source.key} has columns of other types: {error}") from None
    fields = [pa.field(name, pa.string()) for name in own]
    whole = pa.table(arrays, schema=pa.schema([*fields, *wanted_fields]))
    parts = {
        split: whole.filter(pc.equal(whole["split"], split)) if split else whole for split in exported_paths(shard)
    }
    counts = {split: part.num_rows for split, part in parts.items()}
    marks = {SOURCE: shard.source.output.sha256.encode(), ROWS: json.dumps(counts).encode()}
    for split, path in exported_paths(shard).items():
        if not counts[split]:
            (folder / path).unlink(missing_ok=True)
            continue
        with atomic_write(folder / path) as file:
            pq.write_table(parts[split].replace_schema_metadata(marks), file, compression="zstd")
    return wanted


def rows_of(path: Path) -> int:
    """Return the number of rows of an exported file; 0 where there is none."""
    if not path.exists():
        return 0
    return int(pq.read_metadata(path).num_rows)
