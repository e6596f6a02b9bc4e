"""The end of a candidate: stop texts are matched as token ids where that is exact, else as text.

A stop text that is one added token of the tokenizer (a marker) is matched by id, for all candidates at once. Any other
stop text may be spelled by tokens that overlap it, so the tail of the candidate is decoded and searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rstar.interfaces import Finish


@dataclass(frozen=True, slots=True)
class StopRule:
    """The stops of one request: ``ids`` end it as tokens, ``texts`` are searched in decoded text, ``all`` is both."""

    all: tuple[str, ...]
    ids: tuple[int, ...]
    texts: tuple[str, ...]

    @property
    def tail(self) -> int:
        """Tokens to decode so that a stop text that has just been completed lies within them (0: none needed)."""
        # A token is at least one byte; four more keep a cut UTF-8 character out of the text compared.
        return max((len(text.encode()) for text in self.texts), default=-4) + 4


def stop_rule(stops: Sequence[str], added: Mapping[str, int]) -> StopRule:
    """Return the rule for ``stops``; ``added`` gives the id of each added token's text."""
    return StopRule(
        all=tuple(stops),
        ids=tuple(added[stop] for stop in stops if stop in added),
        texts=tuple(stop for stop in stops if stop not in added),
    )


def stopped_in_text(rule: StopRule, tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> bool:
    """Return whether a searched stop text appears in the last ``rule.tail`` of a candidate's ``tokens``."""
    tail = decode(tokens[-rule.tail :])
    return any(text in tail for text in rule.texts)


def cut(text: str, finish: Finish, rule: StopRule) -> tuple[str, Finish]:
    """End a finished candidate after its first stop text, also if ordinary tokens spell it.

    The next call encodes the joined text again, and would encode such a spelling as the marker.
    """
    ends = [(found, len(stop)) for stop in rule.all if (found := text.find(stop)) >= 0]
    if not ends:
        return text, finish
    return text[: sum(min(ends))], Finish.STOP
