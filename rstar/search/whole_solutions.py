"""Whole-solution sampling: best-of-N, self-consistency (majority) and greedy; no search, no pruning.

A sample is a whole program, generated in one call and executed once. Samples that share steps share tree nodes:
N(s) then counts samples, and usage still counts every generated token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rstar.interfaces import Candidate
from rstar.search.expansion import SearchContext, execute, expand, fail, gather_or_cancel, reward_terminal, score
from rstar.search.grammar import foreign_text
from rstar.search.tree import Node
from rstar.seeds import derive
from rstar.trajectory import PROGRAM_STOPS, split_steps


async def sample(context: SearchContext, n: int, seed: int, on_sample: Callable[[], None]) -> None:
    """Draw ``n`` solutions into the context's tree. Identical ones are executed and verified once.

    ``on_sample`` is called after each distinct one.

    Raises the policy's error when no solution could be drawn; a solution that fails later costs only its own leaf.
    """
    config = context.config
    whole = replace(
        context.sampling, stop=PROGRAM_STOPS, max_new_tokens=min(config.max_new_tokens * config.max_depth, 2**17)
    )
    proposal = await context.policy.propose(context.state(()), n, whole, derive(seed, "program"))
    context.policy_digest = proposal.model_digest
    context.usage.tokens += sum(candidate.tokens for candidate in proposal.candidates)
    context.usage.rollouts += n
    leaves: dict[int, tuple[Node, int]] = {}
    for candidate in proposal.candidates:
        leaf = _insert(context, candidate)
        leaves[id(leaf)] = (leaf, leaves.get(id(leaf), (leaf, 0))[1] + 1)

    async def finish(leaf: Node, samples: int, answer_seed: int) -> None:
        await _finish(context, leaf, samples, answer_seed)
        on_sample()

    await gather_or_cancel(
        finish(leaf, samples, derive(seed, "answer", k)) for k, (leaf, samples) in enumerate(leaves.values())
    )


def _insert(context: SearchContext, candidate: Candidate) -> Node:
    """Add a sample's steps to the tree and return its leaf; a malformed sample gets a failed leaf of its own."""
    config = context.config
    steps = split_steps(candidate.text) or [""]
    reason = next(filter(None, map(foreign_text, steps[:-1])), "") or context.malformed(
        replace(candidate, text=steps[-1]), steps[:-1], False
    )
    if len(steps) > config.max_depth:
        reason = reason or f"no answer within {config.max_depth} steps"
    node = context.root
    for depth, step in enumerate(steps, 1):
        fails = bool(reason) and depth == len(steps)
        known = next((c for c in node.children or () if c.text == step and c.valid is not fails), None)
        if known is None:
            known = Node(node, step)
            node.children = [*(node.children or ()), known]
            context.usage.nodes += 1
            if fails:
                fail(known, reason)
        node = known
    node.tokens, node.logprob = candidate.tokens, candidate.logprob  # of the whole sample
    return node


async def _finish(context: SearchContext, leaf: Node, samples: int, seed: int) -> None:
    """Execute a finished program, get its answer and reward it; ``samples`` identical samples count as so many visits."""
    if not leaf.valid:
        return
    assert leaf.parent is not None
    await execute(context, leaf.parent, context.state(leaf.steps()[:-1]), [leaf])
    if leaf.valid and not leaf.terminal:
        answers = await expand(context, leaf, 1, seed)
        if not answers:
            return
        [leaf] = answers
    elif leaf.valid:
        await score(context, context.state(leaf.steps()[:-1]), [leaf])
        if leaf.valid:
            await reward_terminal(context, leaf)
    if not leaf.valid:
        return
    extra = samples - 1
    node: Node | None = leaf
    reward = leaf.value
    while node is not None:
        node.visits += extra
        node.value += extra * reward
        node = node.parent
