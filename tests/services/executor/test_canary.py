"""Sampled programs run twice, and only different results count as different."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_executor.server import metrics
from rstar_executor.server.canary import difference, is_sampled
from rstar_executor.server.local_executor import LocalExecutor

from rstar.interfaces import Execution
from rstar.interfaces import ExecutionStatus as S
from tests.services.executor.conftest import LIMITS
from tests.support.states import START


def counted() -> tuple[float, float]:
    return metrics.CANARY_SAME._value.get(), metrics.CANARY_DIFFERENCES._value.get()


async def counts_after(program: str) -> tuple[float, float]:
    """Run a program with a canary that samples every program; return how the counts changed."""
    same, different = counted()
    async with LocalExecutor(slots=1, cache_mib=0, canary_every=1) as executor:
        await executor.execute(START, [program], LIMITS)
        await executor._canary.wait()
    return counted()[0] - same, counted()[1] - different


@pytest.mark.parametrize("program", ["import random\nprint(random.random())", "1 / 0", "print({'a', 'b'}, hash('x'))"])
async def test_a_deterministic_program_counts_as_the_same(program: str) -> None:
    assert await counts_after(program) == (1, 0)


async def test_a_program_that_asks_the_kernel_for_random_bytes_counts_as_different() -> None:
    assert await counts_after("import os\nprint(os.urandom(8))") == (0, 1)


@pytest.mark.parametrize("program", ["import time\nprint(time.time())", "import os\nos._exit(1)", "while True: pass"])
async def test_programs_that_read_clocks_crash_or_time_out_are_not_counted(program: str) -> None:
    assert await counts_after(program) == (0, 0)


@given(st.sampled_from([S.OK, S.EXCEPTION]), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_results_differ_exactly_when_status_reason_or_output_do(status: S, out: str, other: str, reason: str) -> None:
    first = Execution(status, out, reason, 1.0)
    assert difference(first, Execution(status, out, reason, 2.0)) == ""
    assert bool(difference(first, Execution(status, other, reason))) == (out != other)
    assert bool(difference(first, Execution(status, out, other))) == (reason != other)
    assert difference(first, Execution(S.CRASHED, out, reason))


def test_the_sample_has_about_the_requested_share_and_is_always_the_same() -> None:
    programs = [f"print({k})" for k in range(2000)]
    sample = [program for program in programs if is_sampled(program, 20)]
    assert 60 < len(sample) < 140
    assert sample == [program for program in programs if is_sampled(program, 20)]
    assert not any(is_sampled(program, 0) for program in programs)
