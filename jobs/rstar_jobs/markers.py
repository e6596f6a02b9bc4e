"""The markers of the trajectory grammar for a model whose tokenizer lacks them: new tokens, or text.

The paper makes each marker a special token. A new token must first be learned: its embedding starts far from a place
where the model would write it, and AdamW moves each element by at most the learning rate per step. Until then the model
ends no step. As text, a marker is several tokens that the model knows. Measured with Qwen2.5-Coder-0.5B-Instruct (5-bit
weights), 56 trajectories of GSM8K, 4 per step, learning rate 2e-5, mean loss of a marker's first token on 8 others:

    steps                              0       6       12      18
    text                               6.7     0.01    0.01    0.01
    new tokens, mean of their pieces   13.1    2.8     1.9     1.5
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from tokenizers import AddedToken

from rstar.models.encoding import TrajectoryTokenizer
from rstar.rounds.training_spec import MarkerForm
from rstar.trajectory import MARKERS

LEARNED_SHIFT: Final = 0.005
"""New tokens are used where training can move each element of an embedding so far: about a third of the size of an
element in models of 0.5 to 7 billion parameters (0.015). With the paper's settings these are 1,429 steps."""


def missing_markers(tokenizer: Any) -> list[str]:
    """Return the markers that are not tokens of the tokenizer."""
    known = tokenizer.get_vocab()
    return [marker for marker in MARKERS if marker not in known]


def as_tokens(form: MarkerForm, learning_rate: float, examples: int, batch_size: int) -> bool:
    """Return whether missing markers become tokens for a training on ``examples`` (repetitions counted).

    ``learning_rate`` is the peak of a linear decay, so its mean is half of it.
    """
    if form != "auto":
        return form == "tokens"
    steps = math.ceil(examples / batch_size)
    return learning_rate / 2 * steps >= LEARNED_SHIFT


def add_markers(model: Any, tokenizer: Any) -> int:
    """Add the missing markers to the tokenizer and to the model's embeddings; return their number.

    The row of a marker, in the input and (where untied) the output embeddings, is the mean of the rows of the tokens
    that spell it. Padding rows that the model already has are used first.
    """
    missing = missing_markers(tokenizer)
    if not missing:
        return 0
    spelling = TrajectoryTokenizer(tokenizer)
    pieces = [spelling.continuation(marker) for marker in missing]
    tokenizer.add_tokens(
        [AddedToken(marker, normalized=False, special=True) for marker in missing], special_tokens=True
    )
    new = [tokenizer.convert_tokens_to_ids(marker) for marker in missing]
    if max(new) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = {id(layer): layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer}
    with torch.no_grad():
        for layer in embeddings.values():
            rows = torch.stack([layer.weight[ids].mean(dim=0) for ids in pieces])
            layer.weight[new] = rows
    return len(missing)


def marker_ids(tokenizer: Any) -> list[int]:
    """Return the ids of the markers that are tokens."""
    known = tokenizer.get_vocab()
    return [int(known[marker]) for marker in MARKERS if marker in known]
