"""Verifiers by name: built in, registered, or of another distribution; none can crash a search."""

import asyncio
from pathlib import Path

import pytest

from rstar.interfaces import Verdict
from rstar.problem import Problem
from rstar.verify import register, verifier, verifier_names

PROBLEM = Problem("p", "q", "two  words")


async def test_the_built_in_names_exist_and_a_verifier_is_shared() -> None:
    assert {"countdown", "exact", "math-verify"} <= set(verifier_names())
    assert verifier("exact") is verifier("exact")


@pytest.mark.parametrize(
    ("typo", "nearest"), [("math_verify", "math-verify"), ("count-down", "countdown"), ("exac", "exact")]
)
def test_an_unknown_name_is_an_error_with_the_nearest(typo: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"unknown verifier '{typo}': did you mean '{nearest}'"):
        verifier(typo)


async def test_exact_compares_all_but_white_space() -> None:
    exact = verifier("exact")
    assert (await exact.verify(PROBLEM, " two\nwords ")).correct
    assert not (await exact.verify(PROBLEM, "twowords")).correct
    assert not (await exact.verify(PROBLEM, "Two words")).correct
    assert not (await exact.verify(Problem("p", "q"), "None")).correct
    await exact.close()


async def test_a_registered_verifier_that_raises_is_a_wrong_answer() -> None:
    @register("raises")
    class Raises:
        async def verify(self, problem: Problem, answer: str) -> Verdict:
            raise RuntimeError("no idea")

    assert await verifier("raises").verify(PROBLEM, "x") == Verdict(False, "the verifier failed: RuntimeError: no idea")


async def test_a_registered_verifier_that_hangs_is_a_wrong_answer() -> None:
    @register("hangs", deadline=0.05)
    class Hangs:
        async def verify(self, problem: Problem, answer: str) -> Verdict:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    assert await verifier("hangs").verify(PROBLEM, "x") == Verdict(False, "the verifier did not finish within 0.05 s")


async def test_a_cancelled_verification_is_cancelled_and_gives_no_verdict() -> None:
    @register("waits")
    class Waits:
        async def verify(self, problem: Problem, answer: str) -> Verdict:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    task = asyncio.create_task(verifier("waits").verify(PROBLEM, "x"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_taken_name_and_an_object_that_is_no_verifier_are_errors() -> None:
    with pytest.raises(ValueError, match="'exact' is registered already"):
        register("exact")(object)  # type: ignore[arg-type]
    register("no-verifier")(object)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="made no Verifier"):
        verifier("no-verifier")


async def test_another_distribution_adds_a_verifier_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_of_a_lab.py").write_text(
        "from rstar.interfaces import Verdict\n"
        "class Yes:\n"
        "    async def verify(self, problem, answer):\n"
        "        return Verdict(True, 'always')\n"
    )
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rstar.verifiers]\nyes = plugin_of_a_lab:Yes\ngone = no_such_module:No\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"yes", "gone"} <= set(verifier_names())
    assert (await verifier("yes").verify(PROBLEM, "x")).correct
    with pytest.raises(ValueError, match=r"verifier 'gone' \(no_such_module:No\) cannot be loaded"):
        verifier("gone")
