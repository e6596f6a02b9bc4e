"""Who is next: tenants take turns, within a tenant its problems do, and within a problem the first comes first.

A tenant that sends much waits for itself, not others for it: with k tenants waiting, each gets one of every k turns, and
with p problems waiting in a tenant, each gets one of every p turns of that tenant. Who has nothing waiting loses no turn
and saves none up. A plain data structure without a clock or a loop; the module refuses to know what an entry is, and to
wait (``rstar_executor.server.slots``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

E = TypeVar("E", bound=Hashable)

_Problems = OrderedDict[str, "OrderedDict[E, None]"]


class QueueFullError(Exception):
    """As many entries wait as the queue takes."""


class FairQueue(Generic[E]):
    """Entries that wait for their turn, at most ``capacity``; no two are equal. Every operation takes constant time."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tenants: OrderedDict[str, _Problems[E]] = OrderedDict()
        self._places: dict[E, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def push(self, entry: E, tenant: str = "", problem: str = "") -> None:
        """Put ``entry`` last among those of its problem. Raises ``QueueFullError``, ``ValueError`` if it waits already."""
        if entry in self._places:
            raise ValueError("the entry waits already")
        if len(self) >= self._capacity:
            raise QueueFullError(f"{len(self)} wait, which is all that the queue takes")
        problems: _Problems[E] = self._tenants.setdefault(tenant, OrderedDict())
        problems.setdefault(problem, OrderedDict())[entry] = None
        self._places[entry] = tenant, problem

    def pop(self) -> E:
        """Take the entry whose turn it is; its tenant, and its problem within it, are last now. Raises ``IndexError``."""
        if not self._places:
            raise IndexError("nobody waits")
        tenant, problems = next(iter(self._tenants.items()))
        problem, entries = next(iter(problems.items()))
        entry = next(iter(entries))
        self.remove(entry)
        if problem in problems:
            problems.move_to_end(problem)
        if tenant in self._tenants:
            self._tenants.move_to_end(tenant)
        return entry

    def remove(self, entry: E) -> bool:
        """Take ``entry`` out of its turn, and say whether it waited; nobody else's turn changes."""
        place = self._places.pop(entry, None)
        if place is None:
            return False
        tenant, problem = place
        problems = self._tenants[tenant]
        del problems[problem][entry]
        if not problems[problem]:
            del problems[problem]
        if not problems:
            del self._tenants[tenant]
        return True
