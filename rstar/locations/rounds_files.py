"""Several YAML files as one list of rounds, with the checks that ``rstar run`` makes on one file.

A round's previous round may be in another of the files. Two rounds of one name are an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rstar.locations.errors import RoundsError, RoundsInputError

if TYPE_CHECKING:
    from rstar.rounds.spec import EvolutionRound
    from rstar.store.store import Store


def checked_rounds(
    files: Sequence[Path], store: Store | None, number_of: Callable[[str], int | None]
) -> list[EvolutionRound]:
    """Return the rounds of all files, ordered by number. Raises ``RoundsError``.

    ``number_of`` returns the number of a round that exists already, None for others. ``store:`` URIs must exist in
    ``store``; without a store they are not checked.
    """
    from rstar.rounds.load import SpecError, load_rounds
    from rstar.store.store import StoreError

    numbers = {item.name: item.spec.round for item in parsed_rounds(files)}
    try:
        loaded = [item for file in files for item in load_rounds(file, store, lambda n: numbers.get(n) or number_of(n))]
    except SpecError as error:
        raise RoundsInputError(str(error)) from None
    except StoreError as error:
        raise RoundsError(str(error)) from None
    return sorted(loaded, key=lambda item: item.spec.round)


def parsed_rounds(files: Sequence[Path]) -> list[EvolutionRound]:
    """Return the rounds of all files in their order, without checks of their content. Raises ``RoundsError``."""
    from rstar.rounds.load import SpecError, parse_rounds

    try:
        rounds = [item for file in files for item in parse_rounds(file)]
    except SpecError as error:
        raise RoundsInputError(str(error)) from None
    twice = [name for name, count in Counter(item.name for item in rounds).items() if count > 1]
    if twice:
        raise RoundsInputError(f"round {twice[0]}: metadata.name: more than one round of the files has this name")
    return rounds


def rounds_text(rounds: Sequence[EvolutionRound]) -> str:
    """Return the rounds as one YAML text."""
    from rstar.rounds.documents import documents_text

    return documents_text(item.model_dump(mode="json", by_alias=True, exclude_unset=True) for item in rounds)
