"""Speed of the policy on vLLM: ``python -m benchmarks.serving [--json] [--model FOLDER]``, in vLLM's environment.

The load is that of a search: 32 problems in flight, 16 candidates per call, and each call of a problem continues its last
one by a step; a large model needs a smaller load (``--problems 4 --tokens 16 --turns 1 --rates-only``). Ratios are of turns in one run. Without a model folder, a random model of the Game of 24 example's size is used.
The programs of the rollout are light: the engine's candidates are timed, and replaced by steps that run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import grpc
import psutil
import typer
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import REGISTRY
from rich.console import Console
from rich.table import Table
from rstar_executor.server.local_executor import LocalExecutor
from rstar_policy.engine import Engine
from rstar_policy.service import FULL_NAME, PolicyService
from rstar_policy.transformers_engine import TransformersPolicy
from rstar_policy.vllm_engine import VllmPolicy

from benchmarks.generation import random_model
from benchmarks.scripted import InstantPolicy, InstantVerifier
from rstar.config import SearchConfig
from rstar.interfaces import Executor, Policy, Proposal, Sampling, State
from rstar.models.vllm_runtime import VllmOptions, last_output, request_id
from rstar.problem import Problem
from rstar.rpc.clients import PolicyClient
from rstar.rpc.serving import Health
from rstar.rpc.transport import SERVER_OPTIONS
from rstar.search.solve import solve

CANDIDATES = 16
STEPS = 3
LONG = 4
ROWS = 256
ROLLOUT_PROBLEMS = 64
SMALL_REQUESTS = 10_000
LABELS = {
    "direct_tokens_per_s": "AsyncLLM called directly, tokens/s",
    "service_tokens_per_s": "through the gRPC service, tokens/s",
    "service_vs_direct": "service / direct",
    "transformers_tokens_per_s": "transformers engine, tokens/s",
    "vllm_vs_transformers": "vLLM / transformers engine",
    "cached_with_affinity": "prompt tokens cached, 2 replicas, a problem's calls to one of them",
    "cached_without_affinity": "prompt tokens cached, 2 replicas, calls to any of them",
    "idle_share": "engine idle during a rollout, 64 problems in flight, real executor",
    "growth_mib": "memory of the service's and the engine's processes after 10,000 requests, MiB more than after 1,000",
}


@dataclass(frozen=True)
class Load:
    """Problems in flight, most new tokens per candidate, characters of a question, and turns of each policy."""

    problems: int
    tokens: int
    length: int
    turns: int

    @property
    def sampling(self) -> Sampling:
        """Candidates of equal length: nothing stops them."""
        return Sampling(1.0, 1.0, self.tokens, ())


@dataclass
class Direct:
    """Calls ``AsyncLLM`` with the requests that the engine would make, without its queue, texts and metrics."""

    engine: VllmPolicy

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        """Return the engine's candidates."""
        engine = self.engine
        prompt = engine._tokenizer.encode(state.question, state.steps)
        rule = engine._tokenizer.stop_rule(sampling.stop)
        parameters = engine._parameters(n, sampling, seed, rule, sampling.max_new_tokens)
        output = await last_output(engine._llm.generate({"prompt_token_ids": prompt}, parameters, request_id()))
        return Proposal(tuple(engine._candidate(completion, rule) for completion in output.outputs))


def questions(count: int, length: int) -> list[str]:
    draw = random.Random(0)
    return [f"{i} " + "".join(draw.choices("0123456789, ", k=length)) for i in range(count)]


async def search_shaped(policy: Policy, load: Load) -> tuple[int, float]:
    """Run the load and return (tokens generated, seconds)."""

    async def problem(i: int, question: str) -> int:
        steps: tuple[str, ...] = ()
        tokens = 0
        for depth in range(STEPS):
            proposal = await policy.propose(
                State(f"p{i}", question, steps), CANDIDATES, load.sampling, 1_000 * i + depth
            )
            tokens += sum(candidate.tokens for candidate in proposal.candidates)
            steps += (f"# step {depth}\nx = {i}\n",)
        return tokens

    start = time.perf_counter()
    tokens = sum(await asyncio.gather(*(problem(i, q) for i, q in enumerate(questions(load.problems, load.length)))))
    return tokens, time.perf_counter() - start


@asynccontextmanager
async def served(engine: Engine) -> AsyncIterator[str]:
    """Serve ``engine`` over gRPC and yield the address."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    PolicyService(engine).register(server)
    health = Health([FULL_NAME])
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await health.report_serving()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def in_turns(policies: Sequence[Policy], load: Load) -> list[float]:
    """Return the tokens/s of each policy: the median of turns, each with prompts of its own."""
    rates: list[list[float]] = [[] for _ in policies]
    for turn in range(load.turns):
        for found, policy in zip(rates, policies, strict=True):
            tokens, seconds = await search_shaped(policy, replace(load, length=load.length + turn))
            found.append(tokens / seconds)
    return [statistics.median(found) for found in rates]


class AnyReplica:
    """Sends every call to a replica drawn at random."""

    def __init__(self, clients: Sequence[PolicyClient]) -> None:
        self._clients, self._draw = clients, random.Random(0)

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        return await self._draw.choice(self._clients).propose(state, n, sampling, seed)


async def cached_share(policy: Policy, load: Load) -> float:
    """Return the share of prompt tokens found in the prefix caches."""

    def counted() -> tuple[float, float]:
        names = ("rstar_policy_cached_prompt_tokens_total", "rstar_policy_prompt_tokens_total")
        cached, all_tokens = (REGISTRY.get_sample_value(name) or 0.0 for name in names)
        return cached, all_tokens

    before = counted()
    await search_shaped(policy, load)
    cached, all_tokens = (after - earlier for after, earlier in zip(counted(), before, strict=True))
    return float(cached / all_tokens)


@dataclass
class Timed(InstantPolicy):
    """Waits for the engine's candidates and returns steps that run; adds up the time without a call in the engine."""

    policy: Policy
    sampling: Sampling
    calls: int = 0
    idle_seconds: float = 0.0
    idle_since: float = field(default_factory=time.perf_counter)

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        if not self.calls:
            self.idle_seconds += time.perf_counter() - self.idle_since
        self.calls += 1
        try:
            await self.policy.propose(state, n, self.sampling, seed)
        finally:
            self.calls -= 1
            self.idle_since = time.perf_counter()
        return await super().propose(state, n, sampling, seed)


async def idle_share(policy: Policy, sampling: Sampling) -> float:
    """Return the share of the time in which the engine has no call, while ``ROLLOUT_PROBLEMS`` are in flight."""
    config = SearchConfig(rollouts=2, candidates=8, answer="output")
    timed = Timed(policy, sampling)
    waiting = deque(enumerate(questions(2 * ROLLOUT_PROBLEMS, 40)))
    shares: list[float] = []

    async def search(executor: Executor) -> None:
        while waiting:
            number, question = waiting.popleft()
            if not waiting:  # from here on fewer are in flight
                shares.append(timed.idle_seconds / (time.perf_counter() - start))
            problem = Problem(f"p{number}", question, "1")
            await solve(problem, config, policy=timed, executor=executor, verifier=InstantVerifier(), seed=number)

    async with LocalExecutor(slots=1) as executor:
        start = timed.idle_since = time.perf_counter()
        await asyncio.gather(*(search(executor) for _ in range(ROLLOUT_PROBLEMS)))
    return shares[0]


async def growth_mib(policy: Policy) -> float:
    """Return how much the memory of this process and of vLLM's grows from request 1,000 to request 10,000."""

    async def requests(count: int, seed: int) -> None:
        gate = asyncio.Semaphore(64)

        async def one(i: int) -> None:
            async with gate:
                await policy.propose(State(str(i), f"{i} + 1"), 1, Sampling(max_new_tokens=2), seed + i)

        await asyncio.gather(*(one(i) for i in range(count)))

    def mib() -> float:
        processes = [psutil.Process(os.getpid()), *psutil.Process().children(recursive=True)]
        return float(sum(process.memory_info().rss for process in processes)) / 2**20

    await requests(SMALL_REQUESTS // 10, 0)
    before = mib()
    await requests(SMALL_REQUESTS - SMALL_REQUESTS // 10, SMALL_REQUESTS)
    return mib() - before


async def measure(folder: Path, load: Load, *, rates_only: bool) -> dict[str, float]:
    """Measure everything, or only the generated tokens per second."""
    figures: dict[str, float] = {}

    async with AsyncExitStack() as stack:
        options = VllmOptions(memory_share=0.05, max_rows=ROWS)
        engines = [await stack.enter_async_context(VllmPolicy.load(folder, options=options)) for _ in range(2)]
        addresses = [await stack.enter_async_context(served(engine)) for engine in engines]
        clients = [await stack.enter_async_context(PolicyClient([address])) for address in addresses]
        both = await stack.enter_async_context(PolicyClient(addresses))
        direct, service = await in_turns((Direct(engines[0]), clients[0]), load)
        figures |= {
            "direct_tokens_per_s": direct,
            "service_tokens_per_s": service,
            "service_vs_direct": service / direct,
        }
        if not rates_only:
            figures |= await further(both, clients, load)
    async with TransformersPolicy.load(folder) as reference:
        (plain,) = await in_turns((reference,), load)
    figures |= {"transformers_tokens_per_s": plain, "vllm_vs_transformers": direct / plain}
    return {name: figures[name] for name in LABELS if name in figures}


async def further(both: PolicyClient, clients: Sequence[PolicyClient], load: Load) -> dict[str, float]:
    """Measure prefix caches, idle time and memory; ``both``: a client of the replicas of ``clients``."""
    # vLLM keeps whole blocks of 32 tokens, so short questions would be found in no cache.
    longer = replace(load, length=LONG * load.length)
    return {
        "cached_with_affinity": await cached_share(both, longer),
        "cached_without_affinity": await cached_share(AnyReplica(clients), replace(longer, length=longer.length + 1)),
        "idle_share": await idle_share(clients[0], load.sampling),
        "growth_mib": await growth_mib(clients[0]),
    }


def main(
    model: Annotated[Path | None, typer.Option(help="Model folder; unset: a random one.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Most new tokens per candidate.")] = 24,
    length: Annotated[int, typer.Option(min=1, help="Characters of a question.")] = 40,
    problems: Annotated[int, typer.Option(min=1, help="Problems in flight.")] = 32,
    turns: Annotated[int, typer.Option(min=1, help="Turns of each policy; the median counts.")] = 3,
    rates_only: Annotated[bool, typer.Option("--rates-only", help="Measure only tokens per second.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        load = Load(problems, tokens, length, turns)
        figures = asyncio.run(measure(model or random_model(Path(folder)), load, rates_only=rates_only))
    if as_json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))
        return
    table = Table(f"serving, {problems} problems x {CANDIDATES} candidates", "")
    for name, value in figures.items():
        table.add_row(LABELS[name], f"{value:,.3g}" if value < 100 else f"{value:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
