"""The markers of the trajectory grammar as special tokens of a model that lacks them."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken

from rstar.trajectory import MARKERS


def add_special_tokens(model: Any, tokenizer: Any) -> int:
    """Add the missing markers to the tokenizer and to the model's embeddings; return their number.

    Each new row, in the input and (where untied) the output embeddings, is the mean of the old rows. Padding rows that
    the model already has are used first.
    """
    known = tokenizer.get_vocab()
    missing = [marker for marker in MARKERS if marker not in known]
    if not missing:
        return 0
    old = len(tokenizer)
    tokenizer.add_tokens(
        [AddedToken(marker, normalized=False, special=True) for marker in missing], special_tokens=True
    )
    new = [tokenizer.convert_tokens_to_ids(marker) for marker in missing]
    if max(new) >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = {id(layer): layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer}
    with torch.no_grad():
        for layer in embeddings.values():
            layer.weight[new] = layer.weight[:old].mean(dim=0)
    return len(missing)


def marker_ids(tokenizer: Any) -> list[int]:
    """Return the ids of all markers, for a tokenizer that has them."""
    return [int(tokenizer.convert_tokens_to_ids(marker)) for marker in MARKERS]
