"""The table of unfinished candidates: one vectorised operation per token updates all of them.

It keeps their tokens, log-probabilities and uniforms, and finds the finished ones. It knows neither model nor cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rstar.interfaces import Candidate, Finish, Sampling
from rstar_policy.policy_tokenizer import PolicyTokenizer
from rstar_policy.sampling import BLOCK, uniforms
from rstar_policy.stopping import StopRule, cut, stopped_in_text

_UNFINISHED: Final = 0
_FINISHES: Final = (None, Finish.STOP, Finish.EOS, Finish.LENGTH)
_STOP, _EOS, _LENGTH = 1, 2, 3
_NO_TOKEN: Final = -1


@dataclass(eq=False, slots=True)
class Job:
    """One request, and its finished candidates by index.

    ``most_tokens``: the room left in the model's context; ``first``: the number of its first candidate, for the seed.
    """

    prompt: tuple[int, ...]
    n: int
    sampling: Sampling
    seed: int
    rule: StopRule
    most_tokens: int
    first: int = 0
    finished: dict[int, Candidate] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens of the prompt, and most tokens that the candidates may get."""
        return len(self.prompt) + self.n * min(self.sampling.max_new_tokens, self.most_tokens)


class CandidateTable:
    """One entry per unfinished candidate; each attribute is a column, ``(candidates,)`` or ``(candidates, width)``.

    ``row`` is the candidate's row in the cache, ``tokens[i, :count[i]]`` its tokens so far, ``last`` the last of them.
    """

    def __init__(self) -> None:
        self.job: NDArray[np.object_] = np.zeros(0, dtype=object)
        self.index = np.zeros(0, dtype=np.int64)
        self.row = np.zeros(0, dtype=np.int64)
        self.temperature = np.zeros(0, dtype=np.float32)
        self.top_p = np.zeros(0, dtype=np.float32)
        self.limit = np.zeros(0, dtype=np.int64)
        self.tail = np.zeros(0, dtype=np.int64)
        self.count = np.zeros(0, dtype=np.int64)
        self.logprob = np.zeros(0, dtype=np.float64)
        self.last = np.zeros(0, dtype=np.int64)
        self.finish = np.zeros(0, dtype=np.int8)
        self.stops = np.zeros((0, 0), dtype=np.int64)
        self.uniform = np.zeros((0, BLOCK), dtype=np.float64)
        self.tokens = np.zeros((0, BLOCK), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.row)

    def add(self, job: Job, row: int) -> None:
        """Add the n candidates of ``job``, all in the cache's ``row``."""
        n, sampling = job.n, job.sampling
        jobs = np.empty(n, dtype=object)
        jobs[:] = job
        draws = sampling.temperature > 0
        new: dict[str, NDArray[Any]] = {
            "job": jobs,
            "index": np.arange(n),
            "row": np.full(n, row),
            "temperature": np.full(n, sampling.temperature, dtype=np.float32),
            "top_p": np.full(n, sampling.top_p, dtype=np.float32),
            "limit": np.full(n, min(sampling.max_new_tokens, job.most_tokens)),
            "tail": np.full(n, job.rule.tail),
            "count": np.zeros(n, dtype=np.int64),
            "logprob": np.zeros(n),
            "last": np.zeros(n, dtype=np.int64),
            "finish": np.zeros(n, dtype=np.int8),
            "stops": np.tile(np.array(job.rule.ids, dtype=np.int64), (n, 1)),
            "uniform": np.stack([uniforms(job.seed, job.first + k, 0) for k in range(n)])
            if draws
            else np.zeros((n, BLOCK)),
            "tokens": np.zeros((n, self.tokens.shape[1]), dtype=np.int32),
        }
        for name, column in new.items():
            setattr(self, name, _stack(getattr(self, name), column))

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Drop the candidates that are not ``kept``."""
        for name, column in list(vars(self).items()):
            setattr(self, name, column[kept])

    def next_uniforms(self, since: int) -> NDArray[np.float64]:
        """Return the next uniform of each candidate from position ``since`` on."""
        phase = self.count[since:] % BLOCK
        for i in np.flatnonzero((phase == 0) & (self.count[since:] > 0) & (self.temperature[since:] > 0)) + since:
            self.uniform[i] = uniforms(
                self.job[i].seed, self.job[i].first + int(self.index[i]), int(self.count[i]) // BLOCK
            )
        drawn: NDArray[np.float64] = self.uniform[since:][np.arange(len(phase)), phase]
        return drawn

    def record(
        self, since: int, tokens: NDArray[np.int64], logprobs: NDArray[np.float64], tokenizer: PolicyTokenizer
    ) -> None:
        """Append one token to each candidate from position ``since`` on, and mark the finished ones."""
        rows = np.arange(since, len(self))
        if len(rows) and self.count[since:].max() == self.tokens.shape[1]:
            self.tokens = np.concatenate([self.tokens, np.zeros_like(self.tokens)], axis=1)
        self.tokens[rows, self.count[since:]] = tokens
        self.last[since:] = tokens
        self.logprob[since:] += logprobs
        self.count[since:] += 1
        ended = self.finish[since:]
        ended[self.count[since:] >= self.limit[since:]] = _LENGTH
        ended[np.isin(tokens, list(tokenizer.eos_ids))] = _EOS
        ended[(self.stops[since:] == tokens[:, None]).any(axis=1)] = _STOP
        for i in np.flatnonzero((self.tail[since:] > 0) & (ended != _STOP)) + since:
            if stopped_in_text(self.job[i].rule, self.generated(i), tokenizer.decode):
                self.finish[i] = _STOP

    def generated(self, i: int | np.integer[Any]) -> list[int]:
        """Return the tokens of candidate ``i`` so far."""
        tokens: list[int] = self.tokens[i, : self.count[i]].tolist()
        return tokens

    def stopped(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield, of each candidate that a stop text ends, the tokens with keys and values in the cache, and their row.

        These are the prompt and all generated tokens but the last. The prompt of the next step begins with them.
        """
        for i in np.flatnonzero((self.finish == _STOP) & (self.count > 1)):
            yield (*self.job[i].prompt, *self.generated(i)[:-1]), int(self.row[i])

    def retire(self, tokenizer: PolicyTokenizer) -> list[Job]:
        """Move the finished candidates to their jobs; return the jobs that are now complete."""
        done = np.flatnonzero(self.finish != _UNFINISHED)
        if not len(done):
            return []
        complete = []
        for i in done:
            raw = tokenizer.decode(self.generated(i)[: -1 if self.finish[i] == _EOS else None])
            job: Job = self.job[i]
            reason = _FINISHES[self.finish[i]]
            assert reason is not None
            text, finish = cut(raw, reason, job.rule)
            job.finished[int(self.index[i])] = Candidate(text, int(self.count[i]), float(self.logprob[i]), finish)
            if len(job.finished) == job.n:
                complete.append(job)
        self.keep(self.finish == _UNFINISHED)
        return complete


def _stack(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Concatenate two columns. The narrower of two matrices is padded with a token that does not exist."""
    if old.ndim == 2 and old.shape[1] != new.shape[1]:
        width = max(old.shape[1], new.shape[1])
        old, new = (
            np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=_NO_TOKEN) for part in (old, new)
        )
    return np.concatenate([old, new])
