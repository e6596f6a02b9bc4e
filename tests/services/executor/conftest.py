"""One real executor per test: one slot, and no cache, so that every program runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import Execution, ExecutionLimits
from tests.support.states import START

Run = Callable[..., Coroutine[Any, Any, list[Execution]]]

LIMITS = ExecutionLimits(seconds=10, memory_mib=256)


@pytest.fixture
async def executor() -> AsyncIterator[LocalExecutor]:
    async with LocalExecutor(slots=1, cache_mib=0) as executor:
        yield executor


@pytest.fixture
def run(executor: LocalExecutor) -> Run:
    async def run(*programs: str, limits: ExecutionLimits = LIMITS) -> list[Execution]:
        return await executor.execute(START, programs, limits)

    return run
