"""The one way from text to token ids: training, generation and scoring share it.

A prompt starts with the tokenizer's BOS token exactly once, if the tokenizer adds one at all. A
continuation is encoded on its own: so the tokens of a prefix never depend on what follows, and the n
candidates of one state share them. Prefixes end in a marker (a special token, which no tokenizer merges
with its neighbours), so the pair is the encoding of the joined text; only after a step that was cut at
its length limit may the joined text have a shorter encoding. The module refuses to build prompts (see
``prompt``) and to load tokenizers: it sees two methods and one attribute of theirs.
"""

from __future__ import annotations

from typing import Any, Protocol


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

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
    """Return the token ids of ``text`` as it follows other text: no special token is added."""
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]


def encode_pair(tokenizer: Tokenizer, prefix_text: str, continuation_text: str) -> tuple[list[int], list[int]]:
    """Return the token ids of a prefix and of what follows it; their concatenation is the model's input."""
    return encode_prompt(tokenizer, prefix_text), encode_continuation(tokenizer, continuation_text)
