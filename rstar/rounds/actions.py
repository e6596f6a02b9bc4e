"""The four things a planner may ask of a driver; plain data, nothing else exists.

Each is idempotent for a driver that keeps names: a service is its ``ServiceRef``, an attempt its stage
and number. The module refuses to say how they are carried out.
"""

from __future__ import annotations

from dataclasses import dataclass

from rstar.rounds.observed import EndReason, ManifestRef, ServiceRef, Stage


@dataclass(frozen=True, slots=True)
class StartService:
    """Run this service (again, when it failed)."""

    ref: ServiceRef


@dataclass(frozen=True, slots=True)
class StopService:
    """Drain and release this service."""

    ref: ServiceRef


@dataclass(frozen=True, slots=True)
class StartStage:
    """Start one attempt. ``inputs``: (input name, manifest), sorted; ``search``: the coordinator it talks to, if any."""

    stage: Stage
    attempt: int
    inputs: tuple[tuple[str, ManifestRef], ...]
    search: ServiceRef | None = None


@dataclass(frozen=True, slots=True)
class EndStage:
    """Ask a live attempt to end (SIGTERM): it goes on from its files when it is started again."""

    stage: Stage
    attempt: int
    reason: EndReason


Action = StartService | StopService | StartStage | EndStage
