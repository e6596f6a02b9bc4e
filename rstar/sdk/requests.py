"""The arguments of ``Solver.solve`` as one checked request. Every fault is a ``ValueError`` with one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from rstar.problem import Problem
from rstar.prompt import PromptStyle
from rstar.verify import verifier_names

if TYPE_CHECKING:
    from rstar.config import SearchConfig
    from rstar.local.session import ServiceOptions
    from rstar.record import Progress

Addresses = str | Sequence[str] | None
"""One address or several, ``HOST:PORT``."""


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """One search. ``timeout``: seconds, None: no limit."""

    problem: Problem
    config: SearchConfig
    verifier: str
    seed: int
    timeout: float | None
    progress: Callable[[Progress], None] | None


def solve_request(
    guided: bool,
    question: object,
    /,
    *,
    problem: Problem | None = None,
    expected: object = None,
    verifier: str = "math-verify",
    method: str = "mcts",
    rollouts: int = 16,
    seed: int = 0,
    timeout: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> SolveRequest:
    """Check the arguments of ``Solver.solve``; ``guided``: there is a PPM."""
    from rstar.sdk.search_settings import search_settings

    if (question is None) == (problem is None):
        raise ValueError("give either a question or problem=")
    given = _problem(question if problem is None else problem)
    if expected is not None:
        given = replace(given, answer=str(expected))
    if verifier not in verifier_names():
        raise ValueError(f"there is no verifier {verifier!r}: use one of {', '.join(sorted(verifier_names()))}")
    if not isinstance(method, str):
        raise ValueError(f"method is a text such as 'mcts', not {type(method).__name__}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed is a whole number from 0 to 2**63 - 1, not {seed!r}")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0):
        raise ValueError(f"timeout is a number of seconds above 0, or None, not {timeout!r}")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is a function of one argument, not {type(progress).__name__}")
    config = search_settings(method, [("rollouts", rollouts), *settings.items()], guided=guided)
    return SolveRequest(given, config, verifier, seed, timeout, progress)


def _problem(given: object) -> Problem:
    """Return a problem; one that is made of a question has an id by its text, so that equal questions are one problem."""
    if isinstance(given, Problem):
        return given
    if not isinstance(given, str) or not given.strip():
        shown = "an empty text" if isinstance(given, str) else type(given).__name__
        raise ValueError(f"a question is a text or an rstar.Problem, not {shown}")
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
    return Problem(f"question-{digest[:16]}", given)


def checkpoint_options(policy: str | Path, ppm: str | Path | None, executor: Addresses, prompt: str) -> ServiceOptions:
    """Return the services for two checkpoints."""
    from rstar.local.session import ServiceOptions

    if prompt not in get_args(PromptStyle):
        raise ValueError(f"prompt is one of {', '.join(get_args(PromptStyle))}, not {prompt!r}")
    models = [None if model is None else _model(name, model) for name, model in (("policy", policy), ("ppm", ppm))]
    return ServiceOptions(
        models[0], models[1], executor=addresses("executor", executor), prompt=cast(PromptStyle, prompt)
    )


def _model(name: str, model: object) -> str:
    if not isinstance(model, str | Path) or not str(model):
        raise ValueError(f"{name} is a model folder, store:PREFIX or hf:ORG/NAME@REVISION, not {model!r}")
    uri = str(model)
    if not uri.startswith(("hf:", "store:")) and not Path(uri, "config.json").is_file():
        raise ValueError(f"{name} {uri}: not a model folder: it has no config.json")
    return uri


def addresses(name: str, given: Addresses) -> tuple[str, ...]:
    """Return the addresses of a service, () for none."""
    from rstar.rpc.addresses import parse_target

    texts = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{name} is HOST:PORT or several of them, not {text!r}")
        try:
            parse_target(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return texts


def gpus_of(device: str) -> tuple[str, ...] | None:
    """Return the GPUs that ``device`` names, in the words of ``running_services``: None for all."""
    from rstar.local.devices import NO_GPU

    if device == "auto":
        return None
    if device == "cpu":
        return NO_GPU
    kind, _, numbers = device.partition(":") if isinstance(device, str) else ("", "", "")
    names = tuple(numbers.split(","))
    if kind != "cuda" or not all(name.isascii() and name.isdecimal() for name in names):
        raise ValueError(f"device is auto, cpu, or cuda:0 (cuda:0,1 for two GPUs), not {device!r}")
    return names
