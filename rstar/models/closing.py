"""``async with`` for what has a ``close``: the engines of model services and their clients."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class ClosedOnExit:
    """Closes itself at the end of ``async with``."""

    async def close(self) -> None:
        """Free everything. Closing twice is allowed."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
