"""From selected data to token ids, by the encoding that generation and scoring use.

Each step is encoded as the continuation of what stands before it, as the policy wrote it; what the system inserted
is encoded apart and carries no loss. The module refuses to cut: an example that is too long is left out by the
caller, because half a trajectory teaches to stop in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rstar.models.encoding import encode_continuation, encode_pair, encode_prompt
from rstar.prompt import render, render_prompt
from rstar.selection import PreferencePair, SftExample

NO_LOSS: Final = -100
"""Label of a token that is not trained on."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids and, of equal length, labels: the id itself or ``NO_LOSS``."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of the two trajectories of a pair; ``weight`` as in ``PreferencePair``."""

    chosen: list[int]
    rejected: list[int]
    weight: float
    final: bool


def encode_example(tokenizer: Any, example: SftExample) -> EncodedExample:
    """Encode a trajectory behind its prompt, and the end of text behind it if the tokenizer has one."""
    ids = encode_prompt(tokenizer, render_prompt(example.question))
    labels = [NO_LOSS] * len(ids)
    for text, trained in example.segments():
        tokens = encode_continuation(tokenizer, text)
        ids += tokens
        labels += tokens if trained else [NO_LOSS] * len(tokens)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
        labels.append(tokenizer.eos_token_id)
    return EncodedExample(ids, labels)


def encode_preference(tokenizer: Any, pair: PreferencePair) -> EncodedPair:
    """Encode both trajectories of a pair as the PPM will see them: a prefix, and its last step as a candidate."""

    def ids(steps: tuple[str, ...]) -> list[int]:
        prefix, continuation = encode_pair(tokenizer, render(pair.question, steps[:-1]), steps[-1])
        return prefix + continuation

    return EncodedPair(ids(pair.chosen), ids(pair.rejected), pair.weight, pair.final)
