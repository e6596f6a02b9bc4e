"""Text to token ids, in one way for training, generation and scoring.

A prompt starts with the tokenizer's BOS token exactly once, if the tokenizer adds one at all. A continuation is encoded
on its own, so the tokens of a prefix do not depend on the following text, and the n candidates of one state share them.
Prefixes end in a marker (a special token, which no tokenizer merges with its neighbours), so the two encodings together
equal that of the joined text. The only exception: after a step that was cut at its length limit, the joined text may have
a shorter encoding.
"""

from __future__ import annotations

from typing import Any, Protocol


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    bos_token_id: Any

    def encode(self, text: str, *, add_special_tokens: bool) -> Any:
        """Return the token ids of ``text``."""
        ...


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of ``text`` as the start of a sequence, with BOS once if the tokenizer adds BOS."""
    ids = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:1] != [bos] and list(tokenizer.encode("", add_special_tokens=True))[:1] == [bos]:
        return [int(bos), *ids]
    return ids


def encode_continuation(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of ``text`` after other text: without BOS or other added tokens."""
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]


def encode_pair(tokenizer: Tokenizer, prefix_text: str, continuation_text: str) -> tuple[list[int], list[int]]:
    """Return the token ids of a prefix and of its continuation; their concatenation is the model's input."""
    return encode_prompt(tokenizer, prefix_text), encode_continuation(tokenizer, continuation_text)
