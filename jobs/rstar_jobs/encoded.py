"""Token ids of SFT examples and preference pairs, by the encoding that generation and scoring use.

Each step is encoded as a continuation of the text before it, as the policy wrote it. Inserted outputs are encoded
separately and carry no loss. Nothing is truncated: callers drop an example that is too long, because half a trajectory
would teach the policy to stop in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rstar.models.encoding import TrajectoryTokenizer
from rstar.selection import PreferencePair, SftExample

NO_LOSS: Final = -100
"""Label of a token without loss."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids, and as many labels: the id itself or ``NO_LOSS``."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of the two trajectories of a pair; ``weight`` as in ``PreferencePair``."""

    chosen: list[int]
    rejected: list[int]
    weight: float
    final: bool


def encode_example(tokenizer: TrajectoryTokenizer, example: SftExample) -> EncodedExample:
    """Encode a prompt, its trajectory and, if the tokenizer has one, the end-of-text token."""
    ids = tokenizer.state(example.question)
    labels = [NO_LOSS] * len(ids)
    for text, trained in example.segments():
        tokens = tokenizer.continuation(text)
        ids += tokens
        labels += tokens if trained else [NO_LOSS] * len(tokens)
    if tokenizer.eos is not None:
        ids.append(tokenizer.eos)
        labels.append(tokenizer.eos)
    return EncodedExample(ids, labels)


def encode_preference(tokenizer: TrajectoryTokenizer, pair: PreferencePair) -> EncodedPair:
    """Encode both trajectories of a pair as the PPM service does."""
    chosen, rejected = (tokenizer.state(pair.question, steps) for steps in (pair.chosen, pair.rejected))
    return EncodedPair(chosen, rejected, pair.weight, pair.final)
