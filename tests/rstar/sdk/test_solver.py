"""``rstar.Solver`` on real gRPC servers: results, errors, cancellation, notebooks, and what is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import grpc
import pytest

from rstar import Outcome, Problem, ServicesError, Solution, Solver, SolverError, SolveTimeoutError
from tests.support.jobs.coordinator import GatedPolicy, coordinator
from tests.support.rpc.servicers import (
    ScriptedExecutor,
    ScriptedPolicy,
    ScriptedPreferenceModel,
    fails,
    never,
    running,
)
from tests.support.scripted import ClosenessModel, DigitPolicy, SumExecutor


def solver_threads() -> set[threading.Thread]:
    """Return the running threads of solvers; those of other tests' solvers may be among them."""
    return {thread for thread in threading.enumerate() if thread.name == "rstar-solver"}


@pytest.fixture
async def toy() -> AsyncIterator[dict[str, str]]:
    """The addresses of servers with scripted models: a solution is four digits that add up to 20."""
    policy, executor = ScriptedPolicy(model=DigitPolicy()), ScriptedExecutor(model=SumExecutor())
    async with running(policy, executor, ScriptedPreferenceModel(model=ClosenessModel(20))) as server:
        yield {"policy": server.address, "executor": server.address, "ppm": server.address}


async def test_a_solution_has_the_answer_the_trajectory_its_scores_and_its_cost(toy: dict[str, str]) -> None:
    async with Solver.connect(**toy) as solver:
        found = await solver.asolve("20?", rollouts=8, expected=20, verifier="exact")
    assert isinstance(found, Solution)
    assert (found.answer, found.correct) == ("20", True)
    assert found.trajectory[0].code.startswith("x = 0")
    assert "print(x)" in found.program
    assert found.output == "20"
    assert all(step.score is not None and step.tokens == 3 for step in found.trajectory)
    assert found.tokens == found.record.usage.tokens > 0
    assert found.record.nodes[found.record.chosen].answer == "20"
    with pytest.raises(FrozenInstanceError):
        found.answer = "21"  # type: ignore[misc]


async def test_the_same_seed_gives_the_same_search_alone_and_among_many(toy: dict[str, str]) -> None:
    async with Solver.connect(**toy) as solver:
        first = await solver.asolve("20?", rollouts=4, seed=7)
        again = await solver.asolve(problem=first.problem, rollouts=4, seed=7)
        other = await solver.asolve("20?", rollouts=4, seed=8)
        [outcome] = [one async for one in solver.asolve_many(["20?"], rollouts=4, seed=7)]
    assert first == again == outcome.solution
    assert other.record != first.record


async def test_the_plain_methods_work_while_a_loop_is_running_as_in_a_notebook(toy: dict[str, str]) -> None:
    def cell() -> Solution:
        async def notebook() -> Solution:
            with Solver.connect(**toy) as solver:  # blocks this loop, and needs none
                return solver.solve("20?", rollouts=2)

        return asyncio.run(notebook())

    assert (await asyncio.to_thread(cell)).answer is not None


@pytest.mark.parametrize("method", ["mcts", "beam", "best-of-n", "majority", "greedy"])
async def test_a_coordinator_finds_what_a_search_here_finds(toy: dict[str, str], method: str) -> None:
    async with coordinator(DigitPolicy(), ClosenessModel(20)) as address, Solver.connect(address) as there:
        far = await there.asolve("20?", method=method, rollouts=4, expected="20", verifier="exact")
    async with Solver.connect(**toy) as here:
        near = await here.asolve("20?", method=method, rollouts=4, expected="20", verifier="exact")
    assert (far.answer, far.verdict, far.usage) == (near.answer, near.verdict, near.usage)


async def test_a_failing_question_is_an_outcome_and_ends_nothing() -> None:
    questions: list[Any] = ["a", Problem("broken", "b"), 3, "", "c"]
    async with coordinator(GatedPolicy(failing=["broken"])) as address, Solver.connect(address) as solver:
        outcomes = [one async for one in solver.asolve_many(questions, concurrency=2, rollouts=2, guidance="none")]
    by_index = {one.index: one for one in outcomes}
    assert sorted(by_index) == [0, 1, 2, 3, 4]
    assert by_index[0].solution is not None
    assert by_index[4].solution is not None
    assert isinstance(by_index[1].error, SolverError)
    assert "the model is broken" in str(by_index[1].error)
    assert all(isinstance(by_index[bad].error, ValueError) for bad in (2, 3))


async def test_many_questions_are_read_only_as_slots_become_free_and_the_loop_may_be_left(toy: dict[str, str]) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"question {read}"

    def first() -> Outcome:
        with Solver.connect(**toy) as solver:
            for outcome in solver.solve_many(endless(), concurrency=3, rollouts=1):
                return outcome
        raise AssertionError

    assert (await asyncio.to_thread(first)).solution is not None
    assert read == 3


async def test_progress_is_reported_and_its_exception_ends_the_search(toy: dict[str, str]) -> None:
    seen = []
    async with Solver.connect(**toy) as solver:
        await solver.asolve("20?", rollouts=4, progress=seen.append)

        def broken(_: object) -> None:
            raise KeyError("my own mistake")

        with pytest.raises(KeyError, match="my own mistake"):
            await solver.asolve("20?", rollouts=4, progress=broken)
    assert [one.usage.tokens for one in seen] == sorted(one.usage.tokens for one in seen)
    assert seen[-1].trajectories > 0


async def test_a_search_beyond_its_timeout_is_ended_on_the_servers_too() -> None:
    policy = ScriptedPolicy(never)
    async with (
        running(policy, ScriptedExecutor()) as server,
        Solver.connect(policy=server.address, executor=server.address) as solver,
    ):
        with pytest.raises(SolveTimeoutError, match=r"not finished within 2 s") as caught:
            await solver.asolve("20?", timeout=2)
        assert isinstance(caught.value, TimeoutError)
        async with asyncio.timeout(30):
            await policy.calls.was_cancelled.wait()


async def test_cancelling_the_task_ends_the_search_on_the_servers() -> None:
    policy = ScriptedPolicy(never)
    async with (
        running(policy, ScriptedExecutor()) as server,
        Solver.connect(policy=server.address, executor=server.address) as solver,
    ):
        task = asyncio.create_task(solver.asolve("20?"))
        async with asyncio.timeout(30):
            await policy.calls.arrived.wait()
            task.cancel()
            await policy.calls.was_cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_closing_ends_the_searches_of_other_threads_with_one_sentence() -> None:
    policy = ScriptedPolicy(never)
    async with running(policy, ScriptedExecutor()) as server:
        before = solver_threads()
        solver = Solver.connect(policy=server.address, executor=server.address)
        waiting = asyncio.create_task(asyncio.to_thread(solver.solve, "20?"))
        async with asyncio.timeout(30):
            await policy.calls.arrived.wait()
            await asyncio.to_thread(solver.close)
            with pytest.raises(SolverError, match="is closed"):
                await waiting
    solver.close()
    with pytest.raises(SolverError, match="is closed"):
        solver.solve("20?")
    assert solver_threads() <= before


async def test_closed_solvers_leave_no_reports_of_grpc_to_other_loops(caplog: pytest.LogCaptureFixture) -> None:
    async with coordinator(DigitPolicy(), ClosenessModel(20)) as address:
        for _ in range(20):
            async with Solver.connect(address) as solver:
                await solver.asolve("20?", rollouts=2)
    assert not [record for record in caplog.records if record.name == "asyncio"], caplog.text


async def test_a_failing_service_is_a_typed_error_with_what_was_found(toy: dict[str, str]) -> None:
    refusing = ScriptedPolicy(fails(grpc.StatusCode.INVALID_ARGUMENT))
    async with (
        running(refusing, ScriptedExecutor()) as server,
        Solver.connect(policy=server.address, executor=server.address) as solver,
    ):
        with pytest.raises(SolverError, match="scripted INVALID_ARGUMENT") as caught:
            await solver.asolve("20?")
    assert caught.value.record is not None


async def test_a_server_that_does_not_run_is_a_services_error() -> None:
    solver = Solver.connect("127.0.0.1:1", ready_seconds=0.3)
    with pytest.raises(ServicesError, match=r"127\.0\.0\.1:1.*is it running"):
        await asyncio.to_thread(solver.solve, "20?")
    await asyncio.to_thread(solver.close)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "give either a question or problem="),
        ({"question": "  "}, "not an empty text"),
        ({"question": 24}, "a question is a text or an rstar.Problem, not int"),
        ({"question": "q", "problem": Problem("p", "q")}, "give either a question or problem="),
        ({"question": "q", "rolouts": 3}, "rolouts: unknown key; did you mean rollouts"),
        ({"question": "q", "rollouts": "many"}, "search settings: rollouts"),
        ({"question": "q", "rollouts": 0}, "search settings: rollouts"),
        ({"question": "q", "method": "magic"}, "search settings: method"),
        ({"question": "q", "method": None}, "method is a text"),
        ({"question": "q", "seed": -1}, "seed is a whole number"),
        ({"question": "q", "seed": 1.5}, "seed is a whole number"),
        ({"question": "q", "timeout": 0}, "timeout is a number of seconds above 0"),
        ({"question": "q", "timeout": float("nan")}, "timeout is a number of seconds above 0"),
        ({"question": "q", "verifier": "guess"}, "there is no verifier 'guess'"),
        ({"question": "q", "progress": "yes"}, "progress is a function"),
    ],
)
def test_wrong_arguments_are_a_value_error_before_anything_starts(arguments: dict[str, Any], sentence: str) -> None:
    before = solver_threads()
    solver = Solver.connect("127.0.0.1:1")
    with pytest.raises(ValueError, match=sentence):
        solver.solve(**arguments)
    assert solver_threads() <= before


def test_wrong_arguments_of_many_are_a_value_error_before_the_first_search() -> None:
    solver = Solver.connect("127.0.0.1:1")
    for arguments in ({"concurrency": 0}, {"rolouts": 1}, {"expected": 3}):
        with pytest.raises(ValueError, match=r"concurrency|rolouts|rstar\.Problem"):
            solver.solve_many(["q"], **arguments)
    with pytest.raises(ValueError, match="use solve for a single one"):
        solver.solve_many("q")


def test_wrong_places_are_a_value_error(tmp_path: Path) -> None:
    for given in ({}, {"search": "a:1", "policy": "b:1"}, {"search": "a:1", "ppm": "b:1"}, {"search": "nowhere"}):
        with pytest.raises(ValueError, match=r"address|leave ppm"):
            Solver.connect(**given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not a model folder: it has no config\.json"):
        Solver.from_checkpoints(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    for wrong in ({"device": "tpu"}, {"device": "cuda:x"}, {"prompt": "shout"}, {"executor": "nowhere"}):
        with pytest.raises(ValueError, match=r"device|prompt|executor"):
            Solver.from_checkpoints(tmp_path, **wrong)


async def test_a_question_with_html_is_shown_escaped(toy: dict[str, str]) -> None:
    async with Solver.connect(**toy) as solver:
        found = await solver.asolve("<script>alert(20)</script>", rollouts=4, expected="<b>", verifier="exact")
    html = found._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(20)&lt;/script&gt;" in html
    assert html.count("<tr>") == len(found.trajectory) + 1
    assert "PPM score" in html
    assert found.correct is False


async def test_a_text_with_lone_surrogates_and_control_characters_is_solved(toy: dict[str, str]) -> None:
    async with Solver.connect(**toy) as solver:
        found = await solver.asolve("\ud800 20?\0", rollouts=2)
    assert found.answer is not None
