"""Reads rounds from the API server's bodies: the spec, the stored status, and the previous round for the planner."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from rstar.cluster.api import Json
from rstar.rounds.observed import ManifestRef, PreviousRound, Stage, StageOutput
from rstar.rounds.spec import EvolutionRound
from rstar.rounds.status import RoundStatus
from rstar.rounds.validation_errors import validation_messages


class InvalidRoundError(ValueError):
    """The stored round is not valid for this version. The message is one sentence per fault."""


def read_round(body: Json) -> EvolutionRound:
    """Return the round. Raises ``InvalidRoundError``: the API server does not check everything (names of verifiers)."""
    plain = {key: body[key] for key in ("apiVersion", "kind", "spec") if key in body}
    try:
        return EvolutionRound.model_validate({**plain, "metadata": {"name": body["metadata"]["name"]}})
    except ValidationError as error:
        raise InvalidRoundError("; ".join(validation_messages(error, EvolutionRound))) from None


def read_status(body: Json) -> RoundStatus | None:
    """Return the stored status; None when there is none yet."""
    status: dict[str, Any] = body.get("status") or {}
    return RoundStatus.model_validate(status) if "phase" in status else None


def previous_round(name: str | None, body: Json | None) -> PreviousRound:
    """Return the state and the outputs of the previous round; "missing" when there is none of that name."""
    if name is None or body is None:
        return PreviousRound()
    status = read_status(body)
    if status is None:
        return PreviousRound("running")
    outputs = {
        Stage(stage.name): StageOutput(
            ManifestRef(stage.output.manifest, stage.output.digest), stage.metrics, stage.code_version
        )
        for stage in status.stages
        if stage.output is not None
    }
    if status.phase == "Succeeded":
        return PreviousRound("succeeded", outputs)
    return PreviousRound("failed" if status.phase == "Failed" else "running", outputs)
