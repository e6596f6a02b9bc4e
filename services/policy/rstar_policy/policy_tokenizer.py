"""The policy's tokenizer: token ids of prompts, texts of generated token ids, and stop rules.

Markers are special tokens, but they belong to the grammar of a trajectory, so they stay in the text; only the
end-of-text token is removed. Bytes that are not UTF-8 become U+FFFD.
"""

from __future__ import annotations

from collections.abc import Sequence

from rstar.models.encoding import TrajectoryTokenizer
from rstar.prompt import FEW_SHOT, PromptStyle
from rstar_policy.stopping import StopRule, stop_rule


class PolicyTokenizer:
    """Encodes states and decodes candidates with one tokenizer and one style of prompt."""

    def __init__(
        self, tokenizer: TrajectoryTokenizer, style: PromptStyle, eos_ids: Sequence[int], few_shot: str = FEW_SHOT
    ) -> None:
        """Take the tokenizer and the ids that end a text. Raises ``ValueError`` for a style that it cannot render."""
        self._tokenizer = tokenizer
        self._style = style
        self._few_shot = few_shot
        self._eos_ids = frozenset(eos_ids)
        self.encode("", ())

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a text without being part of it."""
        return self._eos_ids

    def encode(self, question: str, steps: Sequence[str]) -> list[int]:
        """Return the prompt's token ids: BOS at most once, then the rendered state."""
        return self._tokenizer.state(question, steps, self._style, self._few_shot)

    def stop_rule(self, stops: Sequence[str]) -> StopRule:
        """Return the stop rule for the stop texts of a request."""
        return stop_rule(stops, self._tokenizer.added)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated tokens, special tokens included."""
        return self._tokenizer.text(tokens)
