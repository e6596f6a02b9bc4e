"""``rstar evaluate`` as a process, with scripted models."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from rstar.interfaces import Proposal, Sampling, State
from rstar.v1 import policy_pb2
from tests.support.commands import PLAIN_TERMINAL, RSTAR, assert_refused, rstar, rstar_with_servers
from tests.support.rpc.servicers import (
    Context,
    ScriptedExecutor,
    ScriptedPolicy,
    fails,
    running,
)
from tests.support.scripted import DigitPolicy, SumExecutor


async def test_evaluate_prints_accuracy_and_tokens_side_by_side(toy: list[str], sums: Path) -> None:
    methods = ["--method", "greedy", "--method", "mcts:rollouts=16,candidates=4", "--verifier", "exact"]
    finished = await rstar_with_servers("evaluate", "--problems", str(sums), *methods, *toy, "--json")
    assert finished.code == 0, finished.err
    greedy, mcts = json.loads(finished.out)["methods"]
    assert greedy["accuracy"] == 0.0
    assert mcts["name"] == "mcts:rollouts=16,candidates=4"
    assert mcts["low"] <= mcts["accuracy"] <= mcts["high"]
    assert mcts["accuracy"] <= mcts["any"]
    assert mcts["tokens"] > greedy["tokens"]
    table = await rstar_with_servers("evaluate", "--problems", str(sums), *methods, *toy)
    assert "tokens/problem" in table.out
    assert "accuracy" in table.out


@pytest.mark.parametrize(
    ("failing", "searches", "code"), [({"p1"}, "1 search", 0), ({"p0", "p1", "p2"}, "3 searches", 1)]
)
async def test_failed_searches_of_evaluate_are_counted_and_end_nothing(
    sums: Path, failing: set[str], searches: str, code: int
) -> None:
    async def refuse(context: Context) -> None:
        if policy.problems[-1] in failing:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the prompt has 9000 tokens")

    policy, executor = ScriptedPolicy(refuse, DigitPolicy()), ScriptedExecutor(model=SumExecutor())
    async with running(policy, executor) as server:
        options = ["--policy", server.address, "--executor", server.address, "--method", "greedy"]
        finished = await rstar_with_servers("evaluate", "--problems", str(sums), *options, "--verifier", "exact")
        encoded = await rstar_with_servers("evaluate", "--problems", str(sums), *options, "--json")
    assert finished.code == encoded.code == code, finished.err
    assert "Traceback" not in finished.err
    assert f"greedy: {searches} failed" in finished.err
    assert "the prompt has 9000 tokens" in finished.err
    assert "tokens/problem" in finished.out
    assert [method["name"] for method in json.loads(encoded.out)["methods"]] == ["greedy"]


async def test_a_policy_that_is_gone_ends_an_evaluation_with_one_sentence(sums: Path) -> None:
    policy, executor = ScriptedPolicy(fails(grpc.StatusCode.UNAVAILABLE)), ScriptedExecutor(model=SumExecutor())
    async with running(policy, executor) as server:
        options = ["--policy", server.address, "--executor", server.address, "--method", "greedy"]
        finished = await rstar_with_servers("evaluate", "--problems", str(sums), *options)
    assert finished.code == 1
    assert "policy service at" in finished.err
    assert "Traceback" not in finished.err


def test_wrong_options_of_evaluate_are_an_error_before_anything_starts(sums: Path) -> None:
    base = ["evaluate", "--problems", str(sums)]
    server = ["--policy", "127.0.0.1:1"]
    assert_refused(rstar(*base), "--policy-model FOLDER or --policy HOST:PORT")
    assert_refused(rstar(*base, "--policy-model", "nowhere"), "--policy-model nowhere", "config.json")
    assert_refused(rstar(*base, *server, "--method", "beam"), "give --ppm-model or --ppm")
    assert_refused(rstar(*base, *server, "--set", "rolouts=3"), "rolouts: unknown key; did you mean rollouts?")
    assert_refused(rstar(*base, *server, "--set", "rollouts=0"), "rollouts: must be at least 1")
    assert_refused(rstar(*base, *server, "--verifier", "exakt"), "exact")
    assert_refused(rstar("evaluate", "--problems", "none.jsonl", *server), "none.jsonl")


async def test_several_data_sets_are_evaluated_together_and_bad_rows_are_counted(
    toy: list[str], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        rows = [json.dumps({"id": i, "question": "20?", "answer": 20.0}) for i in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*rows[:2], "nonsense", rows[2]]))
    problems = [word for name in ("a", "b") for word in ("--problems", str(tmp_path / f"{name}.jsonl"))]
    common = ["evaluate", *problems, *toy, "--method", "greedy", "--verifier", "exact"]
    assert_refused(await rstar_with_servers(*common), "a.jsonl:3: not JSON")
    finished = await rstar_with_servers(*common, "--on-bad-row", "skip", "--json")
    assert finished.code == 0, finished.err
    found = json.loads(finished.out)
    assert (found["problems"], found["badRows"]) == (6, 2)
    table = await rstar_with_servers(*common, "--on-bad-row", "skip", "--limit", "2")
    assert "4 problems of" in table.out
    assert_refused(await rstar_with_servers(*common, "--on-bad-row", "maybe"), "onBadRow: must be fail or skip")


class Servers:
    """A policy and an executor; ``failing``: problems that the policy refuses; ``stopped``: it answers none of them."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.stopped: set[str] = set()
        self.arrived = asyncio.Event()
        self.policy = ScriptedPolicy(self._before, DigitPolicy())

    async def _before(self, context: Context) -> None:
        problem = self.policy.problems[-1]
        if problem in self.failing:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the prompt has 9000 tokens")
        if problem in self.stopped:
            self.arrived.set()
            await asyncio.Event().wait()

    def searched(self) -> set[str]:
        """The problems of the calls since the last time."""
        found = set(self.policy.problems) - {"digest"}
        self.policy.problems.clear()
        return found


async def test_kept_searches_are_not_searched_again(sums: Path, tmp_path: Path) -> None:
    servers = Servers()
    async with running(servers.policy, ScriptedExecutor(model=SumExecutor())) as server:
        options = ["--policy", server.address, "--executor", server.address, "--verifier", "exact", "--json"]
        command = ["evaluate", "--problems", str(sums), *options, "--method", "greedy", "--method", "majority"]
        keep = ["--keep", str(tmp_path / "kept")]
        whole = await rstar_with_servers(*command)
        servers.failing = {"p1"}
        servers.searched()
        first = await rstar_with_servers(*command, *keep)
        assert servers.searched() == {"p0", "p1", "p2"}
        assert "1 search failed" in first.err
        servers.failing = set()
        second = await rstar_with_servers(*command, *keep)
        assert servers.searched() == {"p1"}
        third = await rstar_with_servers(*command, *keep)
        assert not servers.searched()
        assert second.out == third.out == whole.out
        await rstar_with_servers(*command, *keep, "--seed", "1")
        assert servers.searched() == {"p0", "p1", "p2"}
        await rstar_with_servers(*command, *keep, "--set", "temperature=0.5")
        assert servers.searched() == {"p0", "p1", "p2"}


@pytest.mark.slow
async def test_searches_of_another_model_at_the_same_address_are_not_taken(sums: Path, tmp_path: Path) -> None:
    model = DigitPolicy()
    policy = ScriptedPolicy(model=model)
    async with running(policy, ScriptedExecutor(model=SumExecutor())) as server:
        options = ["--policy", server.address, "--executor", server.address, "--keep", str(tmp_path / "kept")]
        command = ["evaluate", "--problems", str(sums), *options, "--method", "greedy", "--verifier", "exact"]
        assert (await rstar_with_servers(*command)).code == 0
        calls = model.calls
        assert (await rstar_with_servers(*command)).code == 0
        assert model.calls == calls + 1  # the one that asks for the digest
        policy.model = Renamed(model)
        assert (await rstar_with_servers(*command)).code == 0
        assert model.calls > calls + 3


class Renamed:
    """The same policy with another digest."""

    def __init__(self, policy: DigitPolicy) -> None:
        self._policy = policy

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        return replace(await self._policy.propose(state, n, sampling, seed), model_digest="another")


async def test_an_interrupted_evaluation_keeps_what_was_finished(sums: Path, tmp_path: Path) -> None:
    servers = Servers()
    servers.stopped = {"p2"}
    async with running(servers.policy, ScriptedExecutor(model=SumExecutor())) as server:
        options = ["--policy", server.address, "--executor", server.address, "--concurrency", "1"]
        command = ["evaluate", "--problems", str(sums), *options, "--method", "greedy", "--verifier", "exact"]
        keep = ["--keep", str(tmp_path / "kept")]
        process = await asyncio.create_subprocess_exec(
            *RSTAR, *command, *keep, stderr=asyncio.subprocess.PIPE, env=PLAIN_TERMINAL
        )
        async with asyncio.timeout(60):
            await servers.arrived.wait()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert process.returncode == 130, err
        servers.stopped = set()
        assert servers.searched() == {"p0", "p1", "p2"}
        finished = await rstar_with_servers(*command, *keep)
        assert finished.code == 0, finished.err
        assert servers.searched() == {"p2"}


def test_a_folder_for_searches_that_cannot_be_made_is_an_error_before_anything_starts(sums: Path) -> None:
    base = ["evaluate", "--problems", str(sums), "--policy", "127.0.0.1:1"]
    assert_refused(rstar(*base, "--keep", str(sums / "kept")), "--keep", "give a folder that can be written")


class TimedPolicy(ScriptedPolicy):
    """Notes how long each call may take."""

    def __init__(self) -> None:
        super().__init__(model=DigitPolicy())
        self.seconds: set[float] = set()

    async def Propose(self, request: policy_pb2.ProposeRequest, context: Context) -> policy_pb2.ProposeResponse:  # noqa: N802
        self.seconds.add(request.seconds)
        return await super().Propose(request, context)


@pytest.mark.parametrize(
    ("command", "options", "seconds"), [("evaluate", [], 3_600.0), ("solve", ["--call-seconds", "7"], 7.0)]
)
async def test_a_model_has_an_hour_for_a_call_or_as_long_as_the_user_says(
    sums: Path, command: str, options: list[str], seconds: float
) -> None:
    policy = TimedPolicy()
    async with running(policy, ScriptedExecutor(model=SumExecutor())) as server:
        common = ["--policy", server.address, "--executor", server.address, "--method", "greedy", *options]
        subject = ["--problems", str(sums)] if command == "evaluate" else ["20?"]
        finished = await rstar_with_servers(command, *subject, *common)
    assert finished.code == 0, finished.err
    assert policy.seconds == {seconds}
