"""A fair queue: round robin over tenants, within a tenant over its problems, and first in, first out within a problem.

A tenant that sends many entries delays only itself: with k tenants waiting, each gets one of every k turns, and with p
problems waiting in a tenant, each gets one of every p turns of that tenant. A tenant with no entry waiting neither loses
nor saves up turns. A plain data structure without a clock or an event loop; ``rstar_executor.server.slots`` waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

E = TypeVar("E", bound=Hashable)

_Problems = OrderedDict[str, "OrderedDict[E, None]"]


class QueueFullError(Exception):
    """The queue holds as many entries as it may."""


class FairQueue(Generic[E]):
    """At most ``capacity`` entries, no two of them equal. Every operation takes constant time."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tenants: OrderedDict[str, _Problems[E]] = OrderedDict()
        self._places: dict[E, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def push(self, entry: E, tenant: str = "", problem: str = "") -> None:
        """Add ``entry`` after those of its problem. Raises ``QueueFullError``, and ``ValueError`` if it is queued already."""
        if entry in self._places:
            raise ValueError("the entry is queued already")
        if len(self) >= self._capacity:
            raise QueueFullError(f"{len(self)} entries are queued, which is the queue's capacity")
        problems: _Problems[E] = self._tenants.setdefault(tenant, OrderedDict())
        problems.setdefault(problem, OrderedDict())[entry] = None
        self._places[entry] = tenant, problem

    def pop(self) -> E:
        """Take the next entry and move its tenant, and its problem in it, to the end. Raises ``IndexError`` when empty."""
        if not self._places:
            raise IndexError("the queue is empty")
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
        """Remove ``entry`` and say whether it was queued; the order of all others stays."""
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
