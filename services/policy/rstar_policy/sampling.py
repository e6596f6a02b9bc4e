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

_VALUES_AT_ONCE: Final = (1 << 28, 1 << 20)
"""Logits of one pass over the vocabulary, on a GPU and on a CPU, where the values of a pass should stay in its cache."""

_BLOCK_TOKENS: Final = 128
"""Tokens of one block of the inverted CDF: a divisor of most vocabularies, which then need no padding."""


def uniforms(seed: int, candidate: int, block: int) -> NDArray[np.float64]:
    """Return the uniforms in [0, 1) of a candidate's ``BLOCK`` tokens from ``BLOCK * block`` on, shape ``(BLOCK,)``."""
    # Philox gives four 64-bit numbers per count of its counter, and a double takes one of them.
    key = np.array([seed, candidate], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=block * (BLOCK // 4))
    return np.random.Generator(generator).random(BLOCK)


def sample(
    logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor, row: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw one token per candidate by inverse CDF; temperature 0 takes the most likely token.

    ``logits``: float ``(rows, vocabulary)``; the others are on the CPU, ``(candidates,)``. Candidate i draws from row
    ``row[i]``; None: from row i. Returns, on the CPU, the tokens, int64 ``(candidates,)``, and their log-probabilities in
    nats, float ``(candidates,)``, under the model's full distribution at temperature 1, so that numbers of different
    temperatures and top_p are comparable.
    """
    if row is None:
        row = torch.arange(len(logits))
    tokens = torch.zeros(len(temperature), dtype=torch.int64)
    logprobs = torch.zeros(len(temperature))
    # Candidates that share a row and its settings draw from one distribution, computed once.
    settings = torch.stack([row.double(), temperature.double(), top_p.double()], dim=1)
    distinct, which = settings.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    many = max(1, _VALUES_AT_ONCE[logits.device.type == "cpu"] // logits.shape[1])
    for start in range(0, len(distinct), many):
        some = distinct[start : start + many]
        drawing = ((which >= start) & (which < start + many)).nonzero().squeeze(-1)
        drawn, their = _sample(
            logits[some[:, 0].long().to(logits.device)].float(),  # a copy
            some[:, 1].float().to(logits.device),
            some[:, 2].float().to(logits.device),
            uniform[drawing].to(logits.device),
            (which[drawing] - start).to(logits.device),
        )
        tokens[drawing], logprobs[drawing] = drawn.cpu(), their.cpu()
    return tokens, logprobs


def _sample(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a token for each of the candidates in ``row`` and ``uniform``; the others are one per row of ``logits``.

    ``logits`` is overwritten.
    """
    logits = logits.sub_(logits.amax(dim=-1, keepdim=True))
    masses = logits.exp()
    normaliser = masses.sum(dim=-1).log()
    greedy = temperature == 0
    if bool(greedy.all()):
        tokens = logits.argmax(dim=-1)[row]
    else:
        if not bool((temperature == 1).all()):
            masses = (logits / temperature.masked_fill(greedy, 1).unsqueeze(-1)).exp_()
        if bool((top_p < 1).any()):
            masses = nucleus(masses / masses.sum(dim=-1, keepdim=True), top_p)
        tokens = invert(masses, uniform, row)
        if bool(greedy.any()):
            tokens = torch.where(greedy[row], logits.argmax(dim=-1)[row], tokens)
    return tokens, logits[row, tokens] - normaliser[row]


def nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Zero all but the smallest set of most likely tokens whose mass reaches ``top_p``; the set is not rescaled."""
    descending, order = probabilities.sort(dim=-1, descending=True)
    before = descending.cumsum(dim=-1) - descending
    kept = descending.masked_fill(before >= top_p.unsqueeze(-1), 0)
    return torch.zeros_like(probabilities).scatter(-1, order, kept)


def invert(masses: Tensor, uniform: Tensor, row: Tensor | None = None) -> Tensor:
    """Return per candidate the first token whose cumulated mass exceeds ``uniform`` times its row's total mass.

    ``masses``: ``(rows, vocabulary)``; ``uniform`` and ``row``: ``(candidates,)``; without ``row``, candidate i has row i.
    """
    if row is None:
        row = torch.arange(len(masses), device=masses.device)
    # The block that holds the token first, then the token in it: a running sum over a whole vocabulary in double
    # precision costs several times the forward pass's share of it.
    vocabulary = masses.shape[1]
    padded = torch.nn.functional.pad(masses, (0, -vocabulary % _BLOCK_TOKENS))
    blocks = padded.view(len(masses), -1, _BLOCK_TOKENS)
    before = blocks.sum(dim=-1).double().cumsum(dim=-1)[row]
    target = uniform.double() * before[:, -1]
    block = _first_above(before, target)
    target = target - torch.nn.functional.pad(before, (1, 0)).gather(-1, block.unsqueeze(-1)).squeeze(-1)
    token = _first_above(blocks[row, block].double().cumsum(dim=-1), target)
    return (block * _BLOCK_TOKENS + token).clamp_(max=vocabulary - 1)


def _first_above(cumulated: Tensor, target: Tensor) -> Tensor:
    """Return per row the first index whose sum is above ``target``, or the last index with any mass."""
    total = cumulated[:, -1]
    # Rounding must not raise the target to the total, which lies beyond the last index with any mass.
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    found = torch.searchsorted(cumulated, target.unsqueeze(-1), right=True).squeeze(-1)
    return found.clamp_(max=cumulated.shape[1] - 1)
