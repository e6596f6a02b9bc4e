"""Iteration-level batching: requests join between two tokens, candidates leave as soon as they end.

Each distinct prompt is run once, without its cached prefix (``_prefill``), and becomes one row of the cache. Its
candidates, of any number of requests, share that row until they first differ (``placement``). One call of ``step``
gives every candidate one token. Everything here is synchronous and single-threaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rstar.models.forward_passes import planned
from rstar.models.prefix_cache import PrefixCache, cache_of
from rstar.models.token_prefixes import Tokens
from rstar_policy.candidates import CandidateTable, Job
from rstar_policy.kv_arena import KvArena
from rstar_policy.placement import Ints, assign_rows
from rstar_policy.policy_tokenizer import PolicyTokenizer
from rstar_policy.sampling import sample


class Decoder:
    """Generates for all admitted jobs together. One thread owns it."""

    def __init__(self, model: Any, tokenizer: PolicyTokenizer, prefix_bytes: int) -> None:
        """Take a causal language model in evaluation mode, its tokenizer, and the bytes for prefixes of earlier prompts."""
        self._model = model
        self._tokenizer = tokenizer
        self._arena = KvArena()
        self._prefixes = PrefixCache(prefix_bytes)
        self._table = CandidateTable()
        self._tokens: Ints = np.zeros(0, dtype=np.int64)

    @torch.inference_mode()
    def check(self) -> None:
        """Compare the logits of two texts, over two tokens, with those of plain forward passes.

        Raises ``ValueError`` for an architecture with another cache than full keys and values, or another use of the mask.
        """
        texts = [tuple(range(3)), tuple(range(8))]
        try:
            steps = [self._prefill(texts), self._decode(np.array([1, 2]))]
            plain = [
                torch.stack(
                    [self._model(torch.tensor([ids], device=self._model.device)).logits[0, -1] for ids in inputs]
                )
                for inputs in (texts, [(*texts[0], 1), (*texts[1], 2)])
            ]
        except (TypeError, AttributeError, RuntimeError, ValueError, IndexError, NotImplementedError) as error:
            raise ValueError(f"{self._kind} cannot be driven with a plain key-value cache: {error}") from error
        finally:
            self.clear()
        for ours, theirs in zip(steps, plain, strict=True):
            # Half precision changes logits by a few per cent, a wrong cache by as much as the logits themselves.
            if not float((ours - theirs).abs().max()) <= 0.1 * float(theirs.abs().max()) + 1e-6:
                raise ValueError(f"{self._kind} gives other logits with a plain key-value cache: use another engine")

    @property
    def _kind(self) -> str:
        return f"architecture {self._model.config.model_type!r}"

    @property
    def candidates(self) -> int:
        """Candidates being generated."""
        return len(self._table)

    @property
    def rows(self) -> int:
        """Distinct partial texts among them: the rows of a forward pass."""
        return self._arena.rows

    @torch.inference_mode()
    def admit(self, jobs: Sequence[Job]) -> list[Job]:
        """Run the prompts of ``jobs`` and draw the first token of each candidate; return the jobs that are complete."""
        by_prompt: dict[Tokens, list[Job]] = {}
        for job in jobs:
            by_prompt.setdefault(job.prompt, []).append(job)
        expected = self.candidates + sum(job.n for job in jobs)
        complete = []
        prompts = list(by_prompt)
        for places in planned(prompts, list(map(len, prompts)), lambda i: self._prefixes.longest(prompts[i]).length):
            batch = [prompts[i] for i in places]
            first_row, since = self._arena.rows, len(self._table)
            logits = self._prefill(batch, expected)
            for row, prompt in enumerate(batch, start=first_row):
                for job in by_prompt[prompt]:
                    self._table.add(job, row)
            complete += self._draw(logits, first_row, since)
        return complete

    @torch.inference_mode()
    def step(self) -> list[Job]:
        """Give every candidate one more token; return the jobs that are complete."""
        if not len(self._table):
            return []
        return self._draw(self._decode(self._tokens), 0, 0)

    @torch.inference_mode()
    def drop(self, jobs: Sequence[Job]) -> None:
        """Remove the candidates of ``jobs`` and free their rows."""
        gone = {id(job) for job in jobs}
        self._table.keep(np.array([id(job) not in gone for job in self._table.job], dtype=bool))
        self._assign_rows()

    def clear(self) -> None:
        """Drop all candidates and rows, after a failure that may have left the cache incomplete."""
        self._table = CandidateTable()
        self._arena.clear()

    def _prefill(self, prompts: Sequence[Tokens], expected: int = 0) -> Tensor:
        """Run ``prompts`` after their cached prefixes, give each a row, and return the logits, ``(prompts, vocabulary)``.

        ``expected`` is the number of rows that all their candidates may need.
        A row is laid out as padding, cached prefix, padding, new tokens. The mask hides the padding, and the positions skip it.
        """
        prefixes = [self._prefixes.longest(prompt) for prompt in prompts]
        lengths = np.array([len(prompt) for prompt in prompts])
        past = np.array([prefix.length for prefix in prefixes])
        new = lengths - past
        before, width = int(past.max()), int(new.max())
        ids = np.zeros((len(prompts), width), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - new[row] :] = prompt[past[row] :]
        columns = np.arange(width) - (width - new)[:, None]
        seen = np.concatenate([np.arange(before) >= (before - past)[:, None], columns >= 0], axis=1)
        device = self._model.device
        output = self._model(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=None if seen.all() else torch.from_numpy(seen).to(device),
            position_ids=torch.from_numpy((columns + past[:, None]).clip(min=0)).to(device),
            past_key_values=cache_of(prefixes),
            use_cache=True,
            logits_to_keep=1,
        )
        layers = output.past_key_values.layers
        closed = None if before == 0 else torch.from_numpy(_columns_without_gap(past, new)).to(device)
        keys, values = (
            [getattr(layer, name) if closed is None else _rearranged(getattr(layer, name), closed) for layer in layers]
            for name in ("keys", "values")
        )
        for row, prompt in enumerate(prompts):
            if past[row] < len(prompt) - 1:
                self._prefixes.put(prompt, partial(_last_columns, keys, values, row, len(prompt)))
        self._arena.append(keys, values, lengths, expected)
        logits: Tensor = output.logits[:, -1]
        return logits

    def _decode(self, tokens: Ints) -> Tensor:
        """Run one token per row, ``(rows,)``, and return the logits after it, ``(rows, vocabulary)``."""
        cache, mask, positions = self._arena.next_token()
        output = self._model(
            input_ids=torch.from_numpy(tokens).to(self._model.device).unsqueeze(-1),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        self._arena.advance()
        logits: Tensor = output.logits[:, -1]
        return logits

    def _draw(self, logits: Tensor, first_row: int, since: int) -> list[Job]:
        """Draw a token for each candidate from ``since`` on; row r has ``logits[r - first_row]``."""
        table = self._table
        drawn, logprobs = sample(
            logits,
            torch.from_numpy(table.temperature[since:]),
            torch.from_numpy(table.top_p[since:]),
            torch.from_numpy(table.next_uniforms(since)),
            torch.from_numpy(table.row[since:] - first_row),
        )
        if not bool(torch.isfinite(logprobs).all()):
            raise ArithmeticError("the model gave logits that are no numbers: its weights or its dtype are broken")
        table.record(since, drawn.numpy(), logprobs.double().numpy(), self._tokenizer)
        for tokens, row in table.stopped():
            self._prefixes.put(tokens, partial(self._arena.columns, row))
        complete = table.retire(self._tokenizer)
        self._assign_rows()
        return complete

    def _assign_rows(self) -> None:
        """Give each distinct partial text a row of its own, and pack the rows."""
        table = self._table
        plan = assign_rows(table.row, table.last)
        self._arena.rearrange(len(plan.tokens), plan.sources, plan.destinations)
        table.row = plan.row
        self._tokens = plan.tokens


def _last_columns(
    keys: Sequence[Tensor], values: Sequence[Tensor], row: int, length: int, since: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return, per layer, the columns of a row's last ``length`` from number ``since`` on, ``(heads, columns, width)``."""
    columns = slice(-(length - since), None)
    return [key[row, :, columns] for key in keys], [value[row, :, columns] for value in values]


def _columns_without_gap(past: Ints, new: Ints) -> Ints:
    """Return, per row, the columns of prefix and new tokens in order and right-aligned, ``(rows, columns)``.

    Columns left of a row's first token are 0: the caller masks them.
    """
    before, width = int(past.max()), int(new.max())
    from_end = np.arange(before + width)[::-1]
    new_column = before + width - 1 - from_end
    past_column = before - 1 - (from_end - new[:, None])
    inside = from_end < (past + new)[:, None]
    return np.where(from_end < new[:, None], new_column, np.where(inside, past_column, 0))


def _rearranged(tensor: Tensor, columns: Tensor) -> Tensor:
    """Return ``tensor (rows, heads, columns, width)`` with each row's columns rearranged."""
    rows = torch.arange(len(tensor), device=tensor.device).unsqueeze(-1)
    return tensor.transpose(1, 2)[rows, columns].transpose(1, 2)
