"""The example's own tokenizer: one token per number and per fixed phrase, bytes for everything else.

Any text can be encoded (256 byte tokens), but the game's texts are short: a step of four numbers is ten tokens. The
phrases are those that ``plays.render_play`` writes.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rstar.prompt import render_prompt
from rstar.trajectory import ASSISTANT, MARKERS, USER

MAX_VALUE = 60
"""Numbers 0..60 are one token each; plays that leave this range are not demonstrated."""

OPERATIONS = "+-*/"


def phrases() -> list[str]:
    """Return the fixed texts between numbers, in the prompt and in a step."""
    prompt = render_prompt("\0").split("\0")
    fixed = [
        *(piece for half in prompt for piece in half.replace(USER, "\1").replace(ASSISTANT, "\1").split("\1")),
        "Make 24 from ",
        "using each number once and + - * /.",
        "\nn = [",
        "]\na, b = ",
        "\na, b = ",
        "]\n",
    ]
    moves = [move_phrase(operation) for operation in OPERATIONS]
    return [phrase for phrase in dict.fromkeys([*fixed, *moves]) if phrase]


def move_phrase(operation: str) -> str:
    """Return the code between the two numbers of a move and the numbers left after it."""
    return (
        f"\nn.remove(a); n.remove(b); n.insert(0, a {operation} b)\n"
        f'print(a, "{operation}", b, "=", n[0])\nassert n == ['
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer, markers included as special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(["<pad>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(marker, normalized=False) for marker in ("<pad>", "<eos>", *MARKERS)])
    texts = [*phrases(), *(f"{value}, " for value in range(MAX_VALUE + 1))]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
