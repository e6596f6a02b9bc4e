"""The policy's tokenizer: token ids of prompts, texts of generated token ids, and stop rules.

Markers are special tokens, but they belong to the grammar of a trajectory, so they stay in the text; only the
end-of-text token is removed. Bytes that are not UTF-8 become U+FFFD.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rstar.models.encoding import encode_continuation, encode_prompt
from rstar.prompt import PromptStyle, render
from rstar_policy.stopping import StopRule, stop_rule


class PolicyTokenizer:
    """Encodes states and decodes candidates with one Hugging Face tokenizer and one style of prompt."""

    def __init__(self, tokenizer: Any, style: PromptStyle, eos_ids: Sequence[int]) -> None:
        """Take a Hugging Face tokenizer and the ids that end a text."""
        self._tokenizer = tokenizer
        self._style = style
        self._eos_ids = frozenset(eos_ids)
        self._added: dict[str, int] = dict(tokenizer.get_added_vocab())
        # Some tokenizers drop the space before the first decoded token, so every text is decoded after this one.
        self._anchor = encode_continuation(tokenizer, "a")
        self._anchor_text = self._raw([self._anchor])[0]

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a text without being part of it."""
        return self._eos_ids

    def encode(self, question: str, steps: Sequence[str]) -> list[int]:
        """Return the prompt's token ids: BOS at most once, then the rendered state."""
        return encode_prompt(self._tokenizer, render(question, steps, self._style))

    def stop_rule(self, stops: Sequence[str]) -> StopRule:
        """Return the stop rule for the stop texts of a request."""
        return stop_rule(stops, self._added)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated tokens, special tokens included."""
        return self.decode_all([tokens])[0]

    def decode_all(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of generated tokens, special tokens included."""
        texts = self._raw([[*self._anchor, *tokens] for tokens in sequences])
        return [
            text[len(self._anchor_text) :] if text.startswith(self._anchor_text) else self._raw([tokens])[0]
            for text, tokens in zip(texts, sequences, strict=True)
        ]

    def _raw(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self._tokenizer.batch_decode(
            list(sequences), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return texts
