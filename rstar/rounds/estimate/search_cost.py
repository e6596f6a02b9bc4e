"""The work of one search, by method: expansions, calls, generated tokens, programs and scores (section 3.2).

A tree of MCTS is counted level by level. A rollout descends to the first node without children and expands one node per
level from there on. Unvisited children come first, so with b children per node the k-th rollout finds the nodes of
ceil(log_b k) levels expanded, until all b^(steps - 1) ways to a last step are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from rstar.config import SearchConfig


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a task: mean sizes in tokens, and what becomes of the candidates.

    ``steps``: of a trajectory, its answer included. ``distinct``: share of the candidates that are no duplicate of a
    sibling; ``valid``: share of the distinct ones whose code runs.
    """

    prompt_tokens: float
    steps: float
    step_tokens: float
    distinct: float
    valid: float


@dataclass(frozen=True, slots=True)
class SearchCost:
    """Mean work of searching one problem once.

    ``calls``: of the policy, and as many of the executor; ``read``: tokens of all prompts, which a prefix cache saves for
    the most part; ``nodes``: distinct candidates; ``scored``: candidates that the PPM scores where one guides.
    """

    calls: float = 0.0
    tokens: float = 0.0
    read: float = 0.0
    nodes: float = 0.0
    executions: float = 0.0
    scored: float = 0.0

    def times(self, factor: float) -> SearchCost:
        """Return the work of ``factor`` such searches."""
        return SearchCost(*(factor * getattr(self, name) for name in SearchCost.__slots__))

    def __add__(self, other: SearchCost) -> SearchCost:
        return SearchCost(*(getattr(self, name) + getattr(other, name) for name in SearchCost.__slots__))


def search_cost(config: SearchConfig, texts: Texts, *, guided: bool) -> SearchCost:
    """Return the work of one search with ``config``: an upper estimate, because a search may end early."""
    if config.method in ("greedy", "best_of_n", "majority"):
        samples = 1 if config.method == "greedy" else config.rollouts
        return _sampling(config, texts, samples, guided=guided)
    steps = min(texts.steps, config.max_depth)
    if config.method == "beam":
        calls = 1 + config.beam_width * (steps - 1)
        tree = _of_calls(config, texts, calls, calls * config.candidates, guided=guided)
    else:
        calls = expansions(config.rollouts, config.candidates * texts.distinct * texts.valid, steps)
        repeated = max(config.rollouts * steps - calls, 0.0) if config.widening else 0.0
        proposed = calls * config.candidates + repeated * config.widening
        tree = _of_calls(config, texts, calls + repeated, proposed, guided=guided)
    if config.token_budget is not None:
        last = config.candidates * min(texts.step_tokens, config.max_new_tokens) / 2
        tree = _within(config.token_budget / config.trajectories + last, tree)
    return tree.times(config.trajectories)


def expansions(rollouts: float, branches: float, steps: float) -> float:
    """Return the nodes that ``rollouts`` descents expand in a tree of ``steps`` levels with ``branches`` children each.

    The first rollout expands one node per level; one whose first j levels are expanded already adds ``steps - j``.
    """
    total, taken = steps, 1.0
    level = 1
    while level < steps and taken < rollouts and branches > 1:
        reached = min(rollouts, branches**level)
        total += (reached - taken) * (steps - level)
        taken = reached
        level += 1
    return total


def _within(tokens: float, tree: SearchCost) -> SearchCost:
    """Return the part of ``tree`` that generates so many tokens. The expansion that reaches a budget is the last."""
    return tree.times(min(1.0, tokens / tree.tokens))


def _of_calls(config: SearchConfig, texts: Texts, calls: float, proposed: float, *, guided: bool) -> SearchCost:
    """Return the work of ``proposed`` candidates in so many calls; a state is on average half of a trajectory long."""
    step = min(texts.step_tokens, config.max_new_tokens)
    steps = min(texts.steps, config.max_depth)
    nodes = proposed * texts.distinct
    return SearchCost(
        calls=calls,
        tokens=proposed * step,
        read=calls * (texts.prompt_tokens + step * (steps - 1) / 2),
        nodes=nodes,
        executions=nodes * _executed(config, steps),
        scored=nodes * texts.valid if guided else 0.0,
    )


def _executed(config: SearchConfig, steps: float) -> float:
    """Return the share of the steps that are programs: all but the answer, if the policy writes it."""
    return 1.0 if config.answer == "output" else (steps - 1) / steps if steps > 1 else 1.0


def _sampling(config: SearchConfig, texts: Texts, samples: int, *, guided: bool) -> SearchCost:
    """Return the work of whole programs, sampled in one call; each distinct one may get its answer in another call."""
    step = min(texts.step_tokens, config.max_new_tokens)
    steps = min(texts.steps, config.max_depth)
    distinct = 1.0 if samples == 1 else 1 + (samples - 1) * texts.distinct
    complete = distinct * texts.valid
    answers = 0.0 if config.answer == "output" else complete
    return SearchCost(
        calls=1 + answers,
        tokens=samples * steps * step,
        read=(1 + answers) * texts.prompt_tokens + answers * step * (steps - 1),
        nodes=distinct * steps,
        executions=distinct,
        scored=complete if guided else 0.0,
    )
