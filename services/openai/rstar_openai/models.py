"""The models that the endpoint offers: the server's own settings, and the same with each other search method.

A chat page lists them, so a user chooses a method without writing settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import yaml
from pydantic import ValidationError

from rstar.config import SearchConfig, SearchMethod
from rstar.rounds.validation_errors import validation_messages

METHODS: Final[tuple[SearchMethod, ...]] = get_args(SearchMethod)


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that one request may ask for; ``token_budget`` also bounds requests that ask for none."""

    rollouts: int = 64
    candidates: int = 32
    trajectories: int = 8
    token_budget: int = 1_000_000
    choices: int = 8


def search_config(settings: Mapping[str, Any], where: str) -> SearchConfig:
    """Validate settings. Raises ``ValueError`` with one sentence that begins with ``where`` and the key at fault."""
    try:
        config = SearchConfig.model_validate(dict(settings))
    except ValidationError as error:
        message = validation_messages(error, SearchConfig)[0]
        whole = message.removeprefix("document: ")
        raise ValueError(f"{where}.{message}" if whole == message else f"{where}: {whole}") from None
    if config.method == "beam" and config.guidance != "ppm":
        raise ValueError(f"{where}: method beam ranks steps by the PPM; set guidance: ppm")
    if config.stop_when_solved:
        raise ValueError(
            f"{where}.stopWhenSolved: needs a verifier, and a question here has no reference answer; leave it out"
        )
    return config


def default_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs, whose values are YAML. Raises ``ValueError`` with one sentence."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise ValueError(f"--set {pair}: write KEY=VALUE, such as rollouts=32")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"--set {key}: the value is no YAML; write a number, a word or {{key: value}}") from None
    search_config(settings, "--set")
    return settings


def capped(config: SearchConfig, caps: Caps, where: str) -> SearchConfig:
    """Return ``config`` with a token budget. Raises ``ValueError`` with one sentence for a setting beyond ``caps``."""
    for name, value, most in (
        ("rollouts", config.rollouts, caps.rollouts),
        ("candidates", config.candidates, caps.candidates),
        ("trajectories", config.trajectories, caps.trajectories),
        ("beamWidth", config.beam_width if config.method == "beam" else 1, caps.candidates),
        ("widening", config.widening, caps.candidates),
        ("tokenBudget", config.token_budget or 1, caps.token_budget),
    ):
        if value > most:
            raise ValueError(f"{where}.{name}: must be at most {most} on this server, not {value}")
    return config.model_copy(update={"token_budget": config.token_budget or caps.token_budget})


class Models:
    """Names of models and the search settings of each. Raises ``ValueError`` for settings beyond ``caps``."""

    def __init__(self, name: str, settings: Mapping[str, Any], caps: Caps) -> None:
        config = search_config(settings, "--set")
        capped(config, caps, "--set")
        methods = [method for method in METHODS if method != "beam" or config.guidance == "ppm"]
        self._settings = {name: dict(settings)} | {
            f"{name}-{method.replace('_', '-')}": {**settings, "method": method} for method in methods
        }

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the default first."""
        return tuple(self._settings)

    def settings_of(self, name: str) -> Mapping[str, Any] | None:
        """Return the settings of a model, or None where there is no such model."""
        return self._settings.get(name)


def model_object(name: str, created: int) -> dict[str, Any]:
    """Return OpenAI's object of a model; ``created`` in seconds since 1970."""
    return {"id": name, "object": "model", "created": created, "owned_by": "rstar"}
