"""Verifiers by name: the built-in ones, registered ones, and those that other distributions bring.

One verifier per name and process, so that whoever asks shares its workers. The registry refuses names it does not
know, with the nearest one it does, before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from rstar.interfaces import Verifier
from rstar.verify.guard import Guarded

ENTRY_POINT_GROUP = "rstar.verifiers"

Factory = Callable[[], Verifier]

_factories: dict[str, tuple[Factory, float | None]] = {}
_shared: dict[str, Guarded] = {}


def register(name: str, *, deadline: float | None = 60.0) -> Callable[[Factory], Factory]:
    """Return a decorator that makes a class or function without arguments the verifier ``name``.

    ``deadline``: seconds after which a verdict counts as a hang; None for a verifier with deadlines of its own.
    Raises ``ValueError`` when the name is taken.
    """

    def remember(factory: Factory) -> Factory:
        if name in _factories:
            raise ValueError(f"a verifier named {name!r} is registered already: choose another name")
        _factories[name] = (factory, deadline)
        return factory

    return remember


def verifier_names() -> list[str]:
    """Return the names that ``verifier`` knows, sorted."""
    return sorted({*_factories, *_plugins()})


def verifier(name: str) -> Guarded:
    """Return the process's verifier ``name``; ``await .close()`` ends what it started, and a later call starts it again.

    Raises ``ValueError`` for an unknown name, naming the nearest, and for a plug-in that cannot be loaded.
    """
    if name not in _shared:
        factory, deadline = _factories.get(name) or (_plugin(name), 60.0)
        made = factory()
        if not isinstance(made, Verifier):
            raise ValueError(
                f"verifier {name!r}: {factory!r} made no Verifier; give it `async def verify(problem, answer)`"
            )
        _shared[name] = Guarded(made, deadline)
    return _shared[name]


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
            f"verifier {name!r} ({point.value}) cannot be loaded: {error}; mend or remove its package"
        ) from error
    return factory
