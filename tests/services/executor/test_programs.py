"""Decisions before a program runs: its text, limits and kind, and the cache."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_executor.sandbox.limits import Limits
from rstar_executor.server.local_executor import Cache, LocalExecutor
from rstar_executor.server.programs import Kind, bounded, codes_of, kind_of

from rstar.interfaces import Execution, ExecutionLimits, ExecutionStatus
from rstar.trajectory import MARKERS, code_of
from tests.services.executor.conftest import LIMITS
from tests.support.states import START

TEXTS = st.lists(st.one_of(st.sampled_from(MARKERS), st.text(max_size=8), st.just("\n"))).map("".join)
MAXIMUM = ExecutionLimits(seconds=60, memory_mib=1000, output_bytes=1000, file_mib=10)
CACHED = Limits(10, 256, 65_536, 16)


@given(st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=4))
def test_a_program_is_the_code_of_its_steps_and_its_candidate(steps: list[str], candidates: list[str]) -> None:
    codes, own = codes_of(steps, candidates)
    assert ["".join([*codes, code]) for code in own] == [code_of([*steps, candidate]) for candidate in candidates]


def test_too_many_candidates_and_too_much_text_are_refused() -> None:
    with pytest.raises(ValueError, match="1025 candidates in one call; send at most 1024"):
        codes_of([], [""] * 1025)
    with pytest.raises(ValueError, match="send fewer candidates per call"):
        codes_of(["#" * (1 << 19)], [""] * 200)


def test_zero_takes_the_default_and_nothing_exceeds_the_maximum() -> None:
    assert bounded(ExecutionLimits(0, 0, 0, 0), MAXIMUM) == Limits(5.0, 512, 1000, 10)
    assert bounded(ExecutionLimits(1e9, 10**6, 10**9, 10**6), MAXIMUM) == Limits(60, 1000, 1000, 10)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_impossible_limits_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"limits\.seconds is .*; give a number of at least 0"):
        bounded(ExecutionLimits(seconds=seconds), MAXIMUM)


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("import math", Kind.LIGHT),
        ("# numpy would be nice\nx = 'sympy'", Kind.LIGHT),
        ("import numpy as np", Kind.HEAVY),
        ("import math, sympy", Kind.HEAVY),
        ("import numpy as np\nfrom scipy.optimize import brentq", Kind.SCIPY),
        ("import sympy, scipy", Kind.SCIPY),
        ("import networkx as nx", Kind.SCIPY),
        ("from sympy import *\nf = lambdify(x, x**2)", Kind.SCIPY),
        ("scipy = 1", Kind.LIGHT),
        ("x = 1\n    from sympy.abc import x", Kind.HEAVY),
    ],
)
def test_the_imports_choose_the_kind(program: str, kind: Kind) -> None:
    assert kind_of(program) == kind


def ok(text: str) -> Execution:
    return Execution(ExecutionStatus.OK, text)


def test_the_cache_drops_the_least_recently_used_and_stays_within_its_bytes() -> None:
    cache = Cache(3 * 1000)
    for program in "abc":
        cache.put(program, CACHED, ok("x" * 100))
    assert cache.get("a", CACHED) is not None
    cache.put("d", CACHED, ok("x" * 100))
    assert [program for program in "abcd" if cache.get(program, CACHED) is not None] == ["a", "c", "d"]
    cache.put("a", CACHED, ok("x" * 10_000))
    assert cache.get("a", CACHED) == ok("x" * 100)


def test_the_cache_keeps_no_status_that_may_depend_on_the_machine() -> None:
    cache = Cache(1 << 20)
    for status in ExecutionStatus:
        cache.put(status, CACHED, Execution(status))
    kept = {status for status in ExecutionStatus if cache.get(status, CACHED) is not None}
    assert kept == {ExecutionStatus.OK, ExecutionStatus.EXCEPTION}


async def test_a_cached_program_is_not_run_again_unless_its_limits_differ() -> None:
    program = "import os\nprint(os.getpid())"
    async with LocalExecutor(slots=1) as executor:
        first = await executor.execute(START, [program], LIMITS)
        assert await executor.execute(START, [program, "print(1)"], LIMITS) == [
            *first,
            *await executor.execute(START, ["print(1)"], LIMITS),
        ]
        assert await executor.execute(START, [program], ExecutionLimits()) != first
