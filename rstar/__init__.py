"""rStar-Math: search over reasoning steps, and training data from the trees.

The names below are what a notebook needs; other modules, such as ``rstar.verify`` and ``rstar.readers``, are imported
by their own names. A name is loaded at its first use: a command of ``rstar`` need not wait for pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstar.config import SearchConfig
    from rstar.interfaces import (
        Candidate,
        Execution,
        ExecutionLimits,
        ExecutionStatus,
        Executor,
        Finish,
        Policy,
        PreferenceModel,
        Proposal,
        RoleUnavailable,
        Sampling,
        Scores,
        State,
        Verdict,
        Verifier,
    )
    from rstar.locations.errors import RoundsError, RoundsInputError, UnknownRoundError, WaitTimeoutError
    from rstar.problem import Problem
    from rstar.record import NodeRecord, SearchRecord, Usage
    from rstar.sdk.errors import ServicesError, SolverError, SolveTimeoutError
    from rstar.sdk.results import EvaluationResults
    from rstar.sdk.rounds import Round, Rounds
    from rstar.sdk.solution import Outcome, Solution, Step
    from rstar.sdk.solver import Solver
    from rstar.search.solve import SearchFailed, solve
else:  # hidden from type checkers, which would accept any name

    def __getattr__(name: str) -> Any:
        if name in __all__:
            for module in _MODULES:
                found = getattr(import_module(module), name, None)
                if found is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module 'rstar' has no attribute {name!r}")


__all__ = [
    "Candidate",
    "EvaluationResults",
    "Execution",
    "ExecutionLimits",
    "ExecutionStatus",
    "Executor",
    "Finish",
    "NodeRecord",
    "Outcome",
    "Policy",
    "PreferenceModel",
    "Problem",
    "Proposal",
    "RoleUnavailable",
    "Round",
    "Rounds",
    "RoundsError",
    "RoundsInputError",
    "Sampling",
    "Scores",
    "SearchConfig",
    "SearchFailed",
    "SearchRecord",
    "ServicesError",
    "Solution",
    "SolveTimeoutError",
    "Solver",
    "SolverError",
    "State",
    "Step",
    "UnknownRoundError",
    "Usage",
    "Verdict",
    "Verifier",
    "WaitTimeoutError",
    "solve",
]

_MODULES = (
    "rstar.interfaces",
    "rstar.record",
    "rstar.config",
    "rstar.search.solve",
    "rstar.locations.errors",
    "rstar.sdk.errors",
    "rstar.sdk.results",
    "rstar.sdk.rounds",
    "rstar.sdk.solution",
    "rstar.sdk.solver",
)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
