"""Token ids of SFT examples and preference pairs, by the encoding that generation and scoring use.

Each step is encoded as a continuation of the text before it, as the policy wrote it. Inserted outputs are encoded
separately and carry no loss. Nothing is truncated: an example that is too long is dropped and counted, because half a
trajectory would teach the policy to stop in the middle.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rstar.models.encoding import TrajectoryTokenizer
from rstar.selection import PairGroup, SftExample
from rstar_jobs.token_file import TokenFile, Tokens

NO_LOSS: Final = -100
"""Label of a token without loss."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids, and as many labels: the id itself or ``NO_LOSS``."""

    ids: Tokens
    labels: Tokens


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of the two trajectories of a pair; ``weight`` as in ``PairGroup``."""

    chosen: Tokens
    rejected: Tokens
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
    return EncodedExample(np.array(ids, np.int32), np.array(labels, np.int32))


class ExampleData(Sequence[EncodedExample]):
    """Encoded SFT examples of at most ``limit`` tokens, in files in ``folder``. ``lengths``: tokens of each."""

    def __init__(
        self, tokenizer: TrajectoryTokenizer, examples: Iterable[SftExample], limit: int, folder: Path
    ) -> None:
        """Encode all ``examples``."""
        self._ids, self._labels = TokenFile(folder / "ids"), TokenFile(folder / "labels")
        self.lengths = array("i")
        self.too_long = 0
        for example in examples:
            encoded = encode_example(tokenizer, example)
            if len(encoded.ids) > limit:
                self.too_long += 1
                continue
            self._ids.append(encoded.ids)
            self._labels.append(encoded.labels)
            self.lengths.append(len(encoded.ids))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int) -> EncodedExample:  # type: ignore[override]
        return EncodedExample(self._ids[position], self._labels[position])


class PairData(Sequence[EncodedPair]):
    """Encoded pairs whose sides have at most ``limit`` tokens, in a file in ``folder``, as the PPM service encodes them.

    What the pairs of a node share is in the file once. ``lengths``: tokens of both sides of each pair; ``problems``: the
    number of its problem, in order of appearance.
    """

    def __init__(self, tokenizer: TrajectoryTokenizer, groups: Iterable[PairGroup], limit: int, folder: Path) -> None:
        """Encode all ``groups``."""
        self._parts = TokenFile(folder / "parts")
        self._prefix, self._chosen, self._rejected = array("i"), array("i"), array("i")
        self._weights, self._final = array("d"), array("b")
        self.lengths, self.problems = array("i"), array("i")
        self.too_long = 0
        problem, last = -1, ""
        for group in groups:
            if problem < 0 or group.problem_id != last:
                problem, last = problem + 1, group.problem_id
            self._add(tokenizer, group, limit, problem)

    def _add(self, tokenizer: TrajectoryTokenizer, group: PairGroup, limit: int, problem: int) -> None:
        prefix = tokenizer.state(group.question, group.prefix)
        start = self._parts.append(prefix)

        def sides(steps: Iterable[Sequence[str]]) -> list[tuple[int, int]]:
            """Return the position of each continuation and the tokens of its whole trajectory."""
            parts = [[token for step in some for token in tokenizer.step(step)] for some in steps]
            return [(self._parts.append(part), len(prefix) + len(part)) for part in parts]

        right, wrong = sides(side.steps for side in group.right), sides(side.steps for side in group.wrong)
        for good, bad in group.pairs:
            (chosen, chosen_length), (rejected, rejected_length) = right[good], wrong[bad]
            if max(chosen_length, rejected_length) > limit:
                self.too_long += 1
                continue
            self._prefix.append(start)
            self._chosen.append(chosen)
            self._rejected.append(rejected)
            self._weights.append(group.weight)
            self._final.append(group.is_final(good, bad))
            self.lengths.append(chosen_length + rejected_length)
            self.problems.append(problem)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int) -> EncodedPair:  # type: ignore[override]
        prefix = self._parts[self._prefix[position]]
        chosen, rejected = (
            np.concatenate([prefix, self._parts[part[position]]]) for part in (self._chosen, self._rejected)
        )
        return EncodedPair(chosen, rejected, self._weights[position], self.is_final(position))

    def is_final(self, position: int) -> bool:
        """Return whether a side of a pair ends a trajectory."""
        return bool(self._final[position])
