"""Shards that are being searched. Their finished problems are stored meanwhile, so that a restart does not lose them.

A model on a CPU may need an hour for the slowest problem of a shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from rstar.record import SearchRecord
from rstar.store.store import StoreError
from rstar_jobs.search_work import Partial, Shard

StorePartial = Callable[[Shard, Mapping[int, SearchRecord]], None]
"""Stores the records of a shard's finished problems, by position, in place of those stored before. Runs in a thread."""


@dataclass(eq=False, slots=True)
class OpenShard:
    """A shard of which ``pending`` problems are still to be searched; ``records`` are in the order of its problems.

    ``stored``: how many of the records are stored. ``storing`` is held while any are.
    """

    shard: Shard
    records: list[SearchRecord | None]
    pending: int
    stored: int = 0
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def finished(self) -> dict[int, SearchRecord]:
        """Return the records of the problems that need not be searched again, by position."""
        return {i: record for i, record in enumerate(self.records) if record is not None and not record.error}


class OpenShards:
    """The shards of which some problems are still searched. ``store_partial`` stores the others of one shard."""

    def __init__(self, store_partial: StorePartial, partial: Partial) -> None:
        """Take what earlier attempts stored: ``partial``."""
        self._store_partial = store_partial
        self._partial = partial
        self._open: set[OpenShard] = set()

    def open(self, shard: Shard) -> tuple[OpenShard, list[int]]:
        """Add a shard, and return it with the positions of the problems to search."""
        known = self._partial.get(shard.name, {})
        records = [known.get(i) for i in range(len(shard.problems))]
        missing = [i for i, record in enumerate(records) if record is None]
        opened = OpenShard(shard, records, len(missing), stored=len(known))
        self._open.add(opened)
        return opened, missing

    def close(self, shard: OpenShard) -> None:
        """Remove a shard that is stored; one that was not opened here is ignored."""
        self._open.discard(shard)

    async def save_often(self, seconds: float) -> None:
        """Save every ``seconds`` until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self.save()

    async def save(self) -> None:
        """Store the finished problems of all open shards. What cannot be stored is logged: it is tried again later."""
        for opened in tuple(self._open):
            async with opened.storing:
                finished = opened.finished()
                if not opened.pending or len(finished) <= opened.stored:
                    continue
                try:
                    await asyncio.to_thread(self._store_partial, opened.shard, finished)
                except (StoreError, OSError) as error:
                    structlog.get_logger().warning("problems not stored", shard=opened.shard.name, error=str(error))
                else:
                    opened.stored = len(finished)
