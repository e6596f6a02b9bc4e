"""Tiny tokenizers of the families that real models have, trained on a few lines of mathematics and Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rstar.prompt import render_prompt
from rstar.trajectory import MARKERS

CORPUS: Final = [
    *(render_prompt(question, "bootstrap") for question in ("What is 1 + 1?", "How many hours are 3 days?")),
    "import sympy\nfor i in range(10):\n    if i % 2 == 0:\n        total += i\nprint(total)\n",
    "the the then there and a an answer is the sum of the roots .\n\n  \n\t.\n",
]


def byte_level() -> Any:
    """GPT-2's and Qwen2's kind: bytes as letters, words with the space before them, NFC."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    _train(backend, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return _wrapped(backend)


def byte_level_with_prefix() -> Any:
    """RoBERTa's variant: as GPT-2's, with a space before every text."""
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def tiktoken_like() -> Any:
    """Llama 3's kind: tiktoken's regular expression before the bytes, BOS in front."""
    backend = Tokenizer(models.BPE(ignore_merges=True))
    pattern = r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    _train(backend, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return _wrapped(backend, bos=True)


def sentencepiece_bpe() -> Any:
    """Llama 2's and Phi-3's kind: a space before every piece of text, also after special tokens, and byte fallback.

    As in Phi-3, some special tokens take the spaces after them.
    """
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    _train(backend, trainers.BpeTrainer)
    backend = _with_byte_fallback(backend)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken("<|end|>", normalized=False, rstrip=True, lstrip=True)])
    return _wrapped(backend, bos=True)


def sentencepiece_bpe_first() -> Any:
    """The newer form of it: a space before the first word only (``legacy: false``)."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    _train(backend, trainers.BpeTrainer)
    backend = _with_byte_fallback(backend)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrapped(backend, bos=True)


def sentencepiece_unigram() -> Any:
    """T5's algorithm, with the byte fallback that keeps line breaks."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>")
    )
    return _wrapped(_with_byte_fallback(backend), bos=True)


def t5() -> Any:
    """T5's own pipeline, which loses line breaks and indentation."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    backend.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>")
    )
    return _wrapped(backend)


def wordpiece() -> Any:
    """BERT's kind, which loses capitals, line breaks and indentation."""
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    _train(backend, trainers.WordPieceTrainer)
    return _wrapped(backend)


EXACT: Final[dict[str, Callable[[], Any]]] = {
    made.__name__: made
    for made in (
        byte_level,
        byte_level_with_prefix,
        tiktoken_like,
        sentencepiece_bpe,
        sentencepiece_bpe_first,
        sentencepiece_unigram,
    )
}
"""Tokenizers whose vocabulary can spell every text."""


def _train(backend: Any, trainer: Any, **options: Any) -> None:
    settings = {"vocab_size": 500, "special_tokens": ["<unk>", "<s>", "</s>"], "show_progress": False, **options}
    backend.train_from_iterator(CORPUS, trainer(**settings))


def _with_byte_fallback(backend: Any) -> Any:
    """Return ``backend`` with a token for each byte, which spell the characters outside of the vocabulary."""
    content = json.loads(backend.to_str())
    model = content["model"]
    model["byte_fallback"] = True
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    if model["type"] == "Unigram":
        model["vocab"] += [[name, -20.0] for name in names]
    else:
        # As in Llama's vocabulary, no token holds a line break.
        model["merges"] = [pair for pair in model["merges"] if "\n" not in "".join(pair)]
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
        model["vocab"] = {
            piece: i for i, piece in enumerate([*(piece for piece in pieces if "\n" not in piece), *names])
        }
    return Tokenizer.from_str(json.dumps(content))


def _wrapped(backend: Any, *, bos: bool = False) -> Any:
    if bos:
        start = ("<s>", backend.token_to_id("<s>"))
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[start])
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token="<s>" if bos else None,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens(
        [AddedToken(marker, normalized=False, special=True) for marker in MARKERS], special_tokens=True
    )
    return tokenizer
