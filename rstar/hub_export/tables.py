"""Rewrites a shard of a table for the data set: with its round, split by the column ``split``, in one schema per table.

The source's sha256 is in the file's metadata, so that a second export knows which files it has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rstar.hub_export.plan import TableShard
from rstar.store.atomic import atomic_write
from rstar.store.tables import PAIRS, SFT, TREES

SOURCE: Final = b"rstar.source_sha256"

SPLITS: Final = ("train", "held_out")
"""Of pairs. By problem: no problem is in both."""

_SCHEMAS: Final = {"sft": SFT, "pairs": PAIRS, "trees": TREES, "evaluation-trees": TREES}


def exported_paths(shard: TableShard) -> dict[str, str]:
    """Return the path of each exported file of a shard by its split, '' where all rows have one."""
    if "{split}" not in shard.path:
        return {"": shard.path}
    return {split: shard.path.replace("{split}", split) for split in SPLITS}


def is_exported(path: Path, shard: TableShard) -> bool:
    """Return whether the file was made of this very source."""
    try:
        kept = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return bool(kept.get(SOURCE) == shard.source.output.sha256.encode())


def write_shard(source: Path, shard: TableShard, folder: Path, schema: pa.Schema | None) -> pa.Schema:
    """Write the exported files of a shard; an empty one too, as the mark that it is done. Return the schema.

    ``schema``: of the same table's earlier shards: a column that this shard lacks is null. Raises ``ValueError`` for a
    file that is no such table.
    """
    try:
        table = pq.read_table(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{shard.source.key} is no Parquet table: {error}") from None
    wanted = schema or _SCHEMAS.get(shard.config, table.schema)
    columns = {name: table[name] for name in table.column_names}
    count = table.num_rows
    own = {"round": shard.round, **({"method": shard.method} if shard.method else {})}
    wanted_fields = [field for field in wanted if field.name not in own]
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
    for split, path in exported_paths(shard).items():
        _write(whole.filter(pc.equal(whole["split"], split)) if split else whole, folder / path, shard)
    return wanted


def _write(table: pa.Table, path: Path, shard: TableShard) -> None:
    marked = table.replace_schema_metadata({SOURCE: shard.source.output.sha256.encode()})
    with atomic_write(path) as file:
        pq.write_table(marked, file, compression="zstd")


def rows_of(path: Path) -> int:
    """Return the number of rows of an exported file."""
    return int(pq.read_metadata(path).num_rows)
