"""Stores by URI, with errors for a user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rstar.locations.errors import RoundsInputError

if TYPE_CHECKING:
    from rstar.store.store import Store


def opened_store(uri: str) -> Store:
    """Open the store. Raises ``RoundsInputError`` with the store's own sentence."""
    from rstar.store.open import open_store
    from rstar.store.store import StoreError

    try:
        return open_store(uri)
    except (ValueError, StoreError) as error:
        raise RoundsInputError(str(error)) from None


def absolute_store(uri: str) -> str:
    """Return ``uri`` with a folder made absolute, for processes that run in another folder."""
    return uri if "://" in uri else str(Path(uri).absolute())
