"""The settings of a search from keys and values that a user gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from rstar.config import SearchConfig
from rstar.rounds.validation_errors import validation_messages


def search_settings(method: str, settings: Iterable[tuple[str, Any]], *, guided: bool) -> SearchConfig:
    """Return the configuration of a method. ``guided``: the PPM guides unless a setting differs.

    A key ``execution.seconds`` is the key ``seconds`` within ``execution``. Raises ``ValueError``, a sentence per fault.
    """
    values: dict[str, Any] = {"method": method.replace("-", "_"), "guidance": "ppm" if guided else "none"}
    for key, value in settings:
        section, _, inner = key.partition(".")
        if inner:
            values.setdefault(section, {})[inner] = value
        else:
            values[key] = value
    try:
        return SearchConfig.model_validate(values)
    except ValidationError as error:
        faults = validation_messages(error, SearchConfig)
        raise ValueError("\n".join(f"search settings: {fault}" for fault in faults)) from None
