"""Verifiers by name: built in, registered, or provided by other distributions.

There is one verifier per name and process, so that all users share its workers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from rstar.interfaces import Verifier
from rstar.problem import Problem
from rstar.verify.guard import Guarded

ENTRY_POINT_GROUP = "rstar.verifiers"

Factory = Callable[[], Verifier]

_factories: dict[str, tuple[Factory, float | None]] = {}
_shared: dict[str, Guarded] = {}


def register(name: str, *, deadline: float | None = 60.0) -> Callable[[Factory], Factory]:
    """Return a decorator that registers a class or function without arguments as the verifier ``name``.

    ``deadline`` is in seconds; None is for a verifier with deadlines of its own. Raises ``ValueError`` when the name
    is taken.
    """

    def add(factory: Factory) -> Factory:
        if name in _factories:
            raise ValueError(f"a verifier named {name!r} is registered already: choose another name")
        _factories[name] = (factory, deadline)
        return factory

    return add


def verifier_names() -> list[str]:
    """Return the names of all verifiers, sorted."""
    return sorted({*_factories, *_plugins()})


def verifier(name: str) -> Guarded:
    """Return the process's verifier ``name``; ``await .close()`` ends its workers, and a later call starts new ones.

    Raises ``ValueError`` for an unknown name, with the nearest known one, and for a plug-in that cannot be loaded.
    """
    if name not in _shared:
        factory, deadline = _factories.get(name) or (_plugin(name), 60.0)
        made = factory()
        if not isinstance(made, Verifier):
            raise ValueError(
                f"verifier {name!r}: {factory!r} made no Verifier; give its result `async def verify(problem, answer)`"
            )
        _shared[name] = Guarded(made, deadline)
    return _shared[name]


def equivalence(name: str) -> Callable[[str, str], Awaitable[bool]]:
    """Return a function that tells whether two answers are equal to the verifier ``name``, for votes.

    The second answer is judged against the first as the reference. A verifier that needs more of a problem than its
    answer, such as countdown, says that no two different texts are equal. Raises ``ValueError`` as ``verifier`` does.
    """
    judge = verifier(name)

    async def same(first: str, second: str) -> bool:
        verdict = await judge.verify(Problem("", "", answer=first), second)
        return verdict.correct

    return same


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _plugin(name: str) -> Factory:
    point = _plugins().get(name)
    if point is None:
        names = verifier_names()
        near = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown verifier {name!r}: {hint}There are {', '.join(names)}")
    try:
        factory: Factory = point.load()
    except Exception as error:
        raise ValueError(
            f"verifier {name!r} ({point.value}) cannot be loaded: {error}; repair or remove its package"
        ) from error
    return factory
