"""Tokens from logits and uniforms: pure, vectorised, reproducible.

Candidate k of a request draws one uniform per token from a counter-based generator keyed by (seed, k), and inverts the
distribution's CDF. So its tokens do not depend on the other candidates in its batch, except by float rounding of the
logits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK: Final = 32
"""Uniforms drawn at a time: creating the generator costs more than drawing."""


def uniforms(seed: int, candidate: int, block: int) -> NDArray[np.float64]:
    """Return the uniforms in [0, 1) of a candidate's ``BLOCK`` tokens from ``BLOCK * block`` on, shape ``(BLOCK,)``."""
    # Philox gives four 64-bit numbers per count of its counter, and a double takes one of them.
    key = np.array([seed, candidate], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=block * (BLOCK // 4))
    return np.random.Generator(generator).random(BLOCK)


def sample(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one token per row by inverse CDF; temperature 0 takes the most likely token.

    ``logits``: float ``(rows, vocabulary)``; the others ``(rows,)``. Returns the tokens, int64 ``(rows,)``, and
    their log-probabilities in nats, float ``(rows,)``, under the model's full distribution at temperature 1, so that
    numbers of different temperatures and top_p are comparable.
    """
    logits = logits.float()
    logprobs = torch.log_softmax(logits, dim=-1)
    greedy = temperature == 0
    tokens = logits.argmax(dim=-1)
    if not bool(greedy.all()):
        if bool((temperature == 1).all()):
            probabilities = logprobs.exp()
        else:
            probabilities = torch.softmax(logits / temperature.masked_fill(greedy, 1).unsqueeze(-1), dim=-1)
        if bool((top_p < 1).any()):
            probabilities = nucleus(probabilities, top_p)
        tokens = torch.where(greedy, tokens, invert(probabilities, uniform))
    return tokens, logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the smallest set of most likely tokens whose mass reaches ``top_p``; the set is not rescaled."""
    descending, order = probabilities.sort(dim=-1, descending=True)
    before = descending.cumsum(dim=-1) - descending
    kept = descending.masked_fill(before >= top_p.unsqueeze(-1), 0)
    return torch.zeros_like(probabilities).scatter(-1, order, kept)


def invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return per row the first token whose cumulated mass exceeds ``uniform`` times the row's total mass."""
    cumulated = probabilities.double().cumsum(dim=-1)
    total = cumulated[:, -1]
    # Rounding must not raise the target to the total, which lies beyond the last token with any mass.
    target = torch.minimum(uniform.double() * total, torch.nextafter(total, torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulated, target.unsqueeze(-1), right=True).squeeze(-1)
    return tokens.clamp_(max=probabilities.shape[-1] - 1)
