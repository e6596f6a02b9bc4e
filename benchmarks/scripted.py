"""A policy, an executor and a PPM that answer at once, so that a benchmark measures the search itself and the wire.

The policy proposes 7 inner steps and a last one; every candidate is new, and every program succeeds. ``python -m
benchmarks.scripted READY_FILE`` serves all three over gRPC.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc

from rstar.interfaces import (
    Candidate,
    Execution,
    ExecutionLimits,
    ExecutionStatus,
    Proposal,
    Sampling,
    Scores,
    State,
    Verdict,
)
from rstar.problem import Problem
from rstar.rpc import codec
from rstar.rpc.serving import serve
from rstar.trajectory import END_OF_CODE, END_OF_STEP
from rstar.v1 import executor_pb2, executor_pb2_grpc, policy_pb2, policy_pb2_grpc, preference_pb2, preference_pb2_grpc

LEVELS = 8


class InstantPolicy:
    """Proposes n different steps at once."""

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        end = END_OF_STEP if len(state.steps) < LEVELS - 1 else END_OF_CODE
        return Proposal(tuple(Candidate(f"\nx = {seed % 1_000_003 + k}\n{end}", 10) for k in range(n)), "instant")


class InstantExecutor:
    """Answers OK for every program, without running it."""

    async def execute(self, state: State, candidates: Sequence[str], limits: ExecutionLimits) -> list[Execution]:
        return [Execution(ExecutionStatus.OK, "1\n")] * len(candidates)


class InstantPreferenceModel:
    """Scores a step by the length of its text."""

    async def score(self, state: State, candidates: Sequence[str]) -> Scores:
        return Scores(tuple(len(text) % 7 / 7 for text in candidates), "instant")


class InstantVerifier:
    """Judges by the length of the problem id, so that some answers are correct."""

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        return Verdict(len(problem.id) % 2 == 0, "scripted")


class _PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    async def Propose(self, request: policy_pb2.ProposeRequest, context: object) -> policy_pb2.ProposeResponse:  # noqa: N802
        return codec.propose_response(await InstantPolicy().propose(*codec.read_propose_request(request)))


class _ExecutorService(executor_pb2_grpc.ExecutorServiceServicer):
    async def Execute(self, request: executor_pb2.ExecuteRequest, context: object) -> executor_pb2.ExecuteResponse:  # noqa: N802
        return codec.execute_response(await InstantExecutor().execute(*codec.read_execute_request(request)))


class _PreferenceModelService(preference_pb2_grpc.PreferenceModelServiceServicer):
    async def Score(self, request: preference_pb2.ScoreRequest, context: object) -> preference_pb2.ScoreResponse:  # noqa: N802
        return codec.score_response(await InstantPreferenceModel().score(*codec.read_score_request(request)))


def _register(server: grpc.aio.Server) -> None:
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(_PolicyService(), server)
    executor_pb2_grpc.add_ExecutorServiceServicer_to_server(_ExecutorService(), server)
    preference_pb2_grpc.add_PreferenceModelServiceServicer_to_server(_PreferenceModelService(), server)


if __name__ == "__main__":
    names = ["rstar.v1.PolicyService", "rstar.v1.ExecutorService", "rstar.v1.PreferenceModelService"]
    asyncio.run(serve("scripted", _register, names, ready_file=Path(sys.argv[1])))
