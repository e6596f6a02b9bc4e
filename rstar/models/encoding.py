r"""Text to token ids and back, in one way for training, generation and scoring.

A state is encoded piece by piece: the prompt, then each step as a continuation. So the ids of a state do not depend on
what follows, training sees the ids that serving sees, and a child's ids begin with its parent's.

Tokenizers of the SentencePiece kind put a space before every text, and drop one when they decode; others normalise the
text or swallow the spaces around their special tokens. A continuation needs none of it: ``TrajectoryTokenizer`` works
on a copy of the tokenizer without these rules, so that ``text(continuation(x)) == x`` for every text that the
vocabulary can spell. Only at the start of a sequence the space is kept, because models are trained with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Final

from tokenizers import Tokenizer

from rstar.models.chat import chat_text
from rstar.prompt import FEW_SHOT, PromptStyle, render_prompt
from rstar.trajectory import written_by_policy

SPACE: Final = "▁"
"""SentencePiece's letter for a space."""

PROBE: Final = "\n# Step 1: A_b\n  if x[0] >= 2.5:\n\tprint(f'{x}', \"y\" % 7)\n\n    z = x ** 2\n"
"""What a tokenizer must give back unchanged: Python, with its line breaks and indentation."""

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_APART: Final = re.compile(f"({SPACE})|(?<=<)(?=0x[0-9A-Fa-f]{{2}}>)")


class TrajectoryTokenizer:
    """Exact encoding and decoding with the vocabulary of one Hugging Face tokenizer. Thread-safe; never truncates."""

    def __init__(self, tokenizer: Any) -> None:
        """Copy ``tokenizer``, which must not get new tokens afterwards.

        Raises ``ValueError`` with one sentence for a tokenizer that has no ``tokenizer.json`` form or that loses line
        breaks, spaces or letters of a program.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ValueError(
                f"the tokenizer {type(tokenizer).__name__} has no tokenizer.json: convert it with transformers' "
                "AutoTokenizer and save it beside the model"
            )
        pipeline = json.loads(backend.to_str())
        self._starts_with_space = _adds_space(pipeline)
        self._byte_level = any(part["type"] == "ByteLevel" for key in _STAGES for part in _parts(pipeline[key]))
        self._byte_fallback = bool(pipeline["model"].get("byte_fallback"))
        self._exact = Tokenizer.from_str(json.dumps(_without_changes(pipeline)))
        self._space_letter: list[int] = [
            token for byte in SPACE.encode() if (token := self._exact.token_to_id(f"<0x{byte:02X}>")) is not None
        ]
        self.added: Mapping[str, int] = {token["content"]: token["id"] for token in pipeline["added_tokens"]}
        """The id of each added token (markers and other special tokens), which is never split."""
        self._bos = _bos_of(tokenizer)
        self._tokenizer = tokenizer
        self.eos: int | None = tokenizer.eos_token_id
        """The id of the end-of-text token, None where the tokenizer has none."""
        if (found := self.text(self.continuation(PROBE))) != PROBE:
            raise ValueError(
                f"the tokenizer {type(tokenizer).__name__} does not keep a program's text ({_difference(found)}): "
                "use a model with a byte-level tokenizer, or a SentencePiece one with byte fallback"
            )

    def prompt(self, text: str) -> list[int]:
        """Return the ids of ``text`` as the start of a sequence: BOS once, if the tokenizer adds BOS at all."""
        if self._starts_with_space and text and not text.startswith((" ", *self.added)):
            text = f" {text}"
        ids = self.continuation(text)
        return ids if self._bos is None or ids[:1] == [self._bos] else [self._bos, *ids]

    def continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` after other text: nothing is added and nothing is lost."""
        if self._byte_level or not self._byte_fallback:
            return self._encoded(text)
        # The letter for a space cannot stand for itself, but its bytes can; and the name of a byte is not that byte.
        parts = (
            self._space_letter if piece == SPACE else self._encoded(piece) for piece in _APART.split(text) if piece
        )
        return list(chain.from_iterable(parts))

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._exact.encode(text, add_special_tokens=False).ids
        return ids

    def step(self, step: str) -> list[int]:
        """Return the ids of a step after other steps; what the policy wrote and inserted outputs are encoded apart."""
        return [token for text, _ in written_by_policy(step) for token in self.continuation(text)]

    def state(
        self, question: str, steps: Iterable[str] = (), style: PromptStyle = "trained", few_shot: str = FEW_SHOT
    ) -> list[int]:
        """Return the ids of the text that the model continues: ``rstar.prompt.render`` of the same arguments.

        The prompt ``chat`` is put into the chat template; raises ``ValueError`` where the tokenizer has none.
        """
        prompt = render_prompt(question, style, few_shot)
        if style == "chat":
            prompt = chat_text(self._tokenizer, prompt)
        return [*self.prompt(prompt), *(token for step in steps for token in self.step(step))]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of generated tokens, special tokens included; bytes that are not UTF-8 become U+FFFD."""
        # Joined as bytes, so that no token's text depends on its neighbours. An id beyond the vocabulary has no text.
        return b"".join(self._bytes.get(token, b"") for token in ids).decode(errors="replace")

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """The bytes of each token by id."""
        added = {token: content.encode() for content, token in self.added.items()}
        vocabulary = self._exact.get_vocab(with_added_tokens=False)
        return {token: self._spelled(piece) for piece, token in vocabulary.items()} | added

    def _spelled(self, piece: str) -> bytes:
        if self._byte_level:
            if all(letter in _BYTE_OF for letter in piece):
                return bytes(_BYTE_OF[letter] for letter in piece)
        elif self._byte_fallback and (byte := _BYTE.fullmatch(piece)):
            return bytes([int(byte[1], 16)])
        return piece.replace(SPACE, " ").encode()


_STAGES: Final = ("normalizer", "pre_tokenizer", "decoder")


def _byte_letters() -> dict[str, int]:
    """Return the byte of each letter in which byte-level tokenizers write it (GPT-2's table)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTE_OF: Final = _byte_letters()


def _parts(stage: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the components of one stage of a ``tokenizer.json``, those of nested sequences included."""
    if stage is None:
        return []
    inner = next((stage[key] for key in ("normalizers", "pretokenizers", "decoders") if key in stage), None)
    return [dict(stage)] if inner is None else [part for item in inner for part in _parts(item)]


def _adds_space(pipeline: Mapping[str, Any]) -> bool:
    """Return whether the tokenizer puts a space before the first word of a text."""
    before = [*_parts(pipeline["normalizer"]), *_parts(pipeline["pre_tokenizer"])]
    return any(
        part["type"] == "Prepend"
        or (part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never")
        or (part["type"] == "ByteLevel" and part.get("add_prefix_space", False))
        for part in before
    )


def _without_changes(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pipeline that splits the text as ``pipeline`` does and changes nothing in it."""
    kept = [part for part in _parts(pipeline["normalizer"]) if part.get("pattern") in ({"String": " "}, {"Regex": " "})]
    split = _parts(pipeline["pre_tokenizer"])
    for part in split:
        if part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
        elif part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
    return {
        **pipeline,
        "truncation": None,
        "padding": None,
        "normalizer": {"type": "Sequence", "normalizers": kept},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
        # A token that takes the spaces around it, as some of Phi-3's do, would lose them.
        "added_tokens": [{**token, "lstrip": False, "rstrip": False} for token in pipeline["added_tokens"]],
    }


def _bos_of(tokenizer: Any) -> int | None:
    """Return the id of BOS if the tokenizer begins a text with it."""
    bos = tokenizer.bos_token_id
    return None if bos is None or list(tokenizer.encode("", add_special_tokens=True))[:1] != [bos] else int(bos)


def _difference(found: str) -> str:
    start = next((i for i, (a, b) in enumerate(zip(found, PROBE, strict=False)) if a != b), min(len(found), len(PROBE)))
    return f"{PROBE[start : start + 12]!r} becomes {found[start : start + 12]!r}"
