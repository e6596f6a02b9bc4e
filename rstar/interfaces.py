"""The four roles that a search calls (policy, PPM, executor, verifier) and the plain data they exchange.

The search depends on these protocols alone: a notebook passes small objects, a cluster passes gRPC clients
(``rstar.rpc``). Every call is asynchronous, so that many problems share one policy without a barrier between
them. Cancelling the awaiting task cancels the call down to the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from rstar.problem import Problem


@dataclass(frozen=True, slots=True)
class State:
    """The paper's state: the question x and the partial trajectory s_1 .. s_i (section 3.2).

    ``steps`` are raw step texts as the policy generated them, markers included: joined without a
    separator they are the partial trajectory, byte for byte.
    """

    problem_id: str
    question: str
    steps: tuple[str, ...] = ()


class Finish(StrEnum):
    """Why the generation of a candidate ended."""

    STOP = "stop"  # a stop marker was generated (it is the end of the text)
    LENGTH = "length"  # max_new_tokens was reached first
    EOS = "eos"  # the model ended the text without a stop marker


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the policy samples. ``temperature`` 0 is greedy; ``stop`` are the texts that end a candidate."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 2048
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One proposed continuation. ``tokens`` were generated for it; ``logprob`` is their sum in nats."""

    text: str
    tokens: int
    logprob: float = 0.0
    finish: Finish = Finish.STOP


@dataclass(frozen=True, slots=True)
class Proposal:
    """n candidates of one state, and the digest of the policy that proposed them."""

    candidates: tuple[Candidate, ...]
    model_digest: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """One score in [-1, 1] per candidate, in order, and the digest of the PPM."""

    values: tuple[float, ...]
    model_digest: str = ""


class ExecutionStatus(StrEnum):
    """How one program ended. Only INTERNAL may be retried elsewhere."""

    OK = "ok"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    CRASHED = "crashed"
    REJECTED = "rejected"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class ExecutionLimits:
    """Limits of one program: wall seconds, MiB of address space, bytes of stdout, MiB per file; with their defaults."""

    seconds: float = 5.0
    memory_mib: int = 512
    output_bytes: int = 65_536
    file_mib: int = 16


@dataclass(frozen=True, slots=True)
class Execution:
    """The result of one program.

    ``reason`` is one line for the model, empty when ``status`` is OK; ``traceback`` is empty unless it was requested.
    """

    status: ExecutionStatus
    stdout: str = ""
    reason: str = ""
    milliseconds: float = 0.0
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer is correct, and why (one line)."""

    correct: bool
    reason: str


class RoleUnavailable(Exception):  # noqa: N818 - named after the state
    """No server of a role can take calls, so that a search cannot continue. Other exceptions concern one call alone."""


@runtime_checkable
class Policy(Protocol):
    """The policy model: proposes the next step."""

    async def propose(self, state: State, n: int, sampling: Sampling, seed: int) -> Proposal:
        """Return n candidates; candidate k depends only on (state, sampling, seed, k)."""
        ...


@runtime_checkable
class PreferenceModel(Protocol):
    """The process preference model (PPM): scores a step by the answers that it leads to."""

    async def score(self, state: State, candidates: Sequence[str]) -> Scores:
        """Score each candidate text as the next step of ``state``, in [-1, 1]."""
        ...


class TrajectoryScorer(PreferenceModel, Protocol):
    """A PPM that also scores all steps of a trajectory at once, to show where it goes wrong."""

    async def score_steps(self, state: State) -> Scores:
        """Score each of ``state.steps`` as the next one after those before it, in [-1, 1]."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs the program of each candidate: the code of the state's steps and the candidate's own, in order."""

    async def execute(self, state: State, candidates: Sequence[str], limits: ExecutionLimits) -> list[Execution]:
        """Run ``code_of((*state.steps, candidate))`` for each candidate; programs are isolated from each other."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Judges a final answer. A verifier that raises or hangs is a wrong answer with that reason (``rstar.verify``)."""

    async def verify(self, problem: Problem, answer: str) -> Verdict:
        r"""Judge ``answer``, the content of the last ``\boxed{}``, against ``problem``."""
        ...
