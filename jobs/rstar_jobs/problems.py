"""The problems of a round: fetched, read, and named by what they say.

The module refuses to mend problems: a bad line is an error that names it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rstar.problem import Problem
from rstar.readers import read_hub, read_problems
from rstar.rounds.artifacts import fetch
from rstar.rounds.manifest import canonical, digest_of
from rstar.rounds.spec import ProblemsSpec
from rstar_jobs.program import BadInputError, Invocation


def load_problems(spec: ProblemsSpec, invocation: Invocation) -> list[Problem]:
    """Return the problems of ``spec``, in order. Raises ``BadInputError``."""
    try:
        place = fetch(spec.uri, invocation.store, invocation.cache)
        if isinstance(place, Path):
            problems = read_problems(place, spec.format, limit=spec.limit)
        else:
            problems = read_hub(place, spec.split, spec.format, spec.limit)
    except (ValueError, FileNotFoundError) as error:
        raise BadInputError(str(error)) from None
    if not problems:
        raise BadInputError(f"{spec.uri} holds no problems")
    return problems


def problems_digest(problems: list[Problem]) -> str:
    """Return the sha256 over the problems: the same wherever the file lies."""
    return digest_of(canonical({"problems": [asdict(problem) for problem in problems]}))
