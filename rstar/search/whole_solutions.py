"""Whole-solution sampling: best-of-N, self-consistency (majority) and greedy; no search, no pruning.

A sample is a whole program, generated in one call and executed once. Samples that share steps share tree nodes:
N(s) then counts samples, and usage still counts every generated token.
"""

from __future__ import annotations

from dataclasses import replace

from rstar.interfaces import Candidate
from rstar.search.expansion import SearchContext, apply_execution, fail, gather_or_cancel, malformed, reward_terminal
from rstar.search.tree import Node
from rstar.seeds import derive
from rstar.trajectory import PROGRAM_STOPS, boxed, ends_answer, ends_code, split_steps


async def sample(context: SearchContext, n: int, seed: int) -> Node:
    """Draw ``n`` solutions and return the root of their tree. Identical ones are executed and verified once."""
    config = context.config
    whole = replace(
        context.sampling, stop=PROGRAM_STOPS, max_new_tokens=min(config.max_new_tokens * config.max_depth, 2**17)
    )
    proposal = await context.policy.propose(context.state(()), n, whole, derive(seed, "program"))
    context.policy_digest = proposal.model_digest
    context.usage.tokens += sum(candidate.tokens for candidate in proposal.candidates)
    context.usage.rollouts += n
    root = Node()
    leaves: dict[int, tuple[Node, int]] = {}
    for candidate in proposal.candidates:
        leaf = _insert(context, root, candidate)
        leaves[id(leaf)] = (leaf, leaves.get(id(leaf), (leaf, 0))[1] + 1)
    await gather_or_cancel(
        (
            _finish(context, leaf, samples, derive(seed, "answer", k))
            for k, (leaf, samples) in enumerate(leaves.values())
        )
    )
    return root


def _insert(context: SearchContext, root: Node, candidate: Candidate) -> Node:
    """Add a sample's steps to the tree and return its leaf; an incomplete sample's leaf is failed."""
    node = root
    steps = split_steps(candidate.text) or [""]
    for step in steps:
        known = next((child for child in node.children or () if child.text == step), None)
        if known is None:
            known = Node(node, step)
            node.children = [*(node.children or ()), known]
            context.usage.nodes += 1
        node = known
    node.tokens, node.logprob = candidate.tokens, candidate.logprob  # of the whole sample
    reason = malformed(replace(candidate, text=steps[-1]), code_ended=False)
    if node.valid and (reason or len(steps) > context.config.max_depth):
        fail(node, reason or f"no answer within {context.config.max_depth} steps")
    return node


async def _finish(context: SearchContext, leaf: Node, samples: int, seed: int) -> None:
    """Execute a finished program, get its answer and reward it; ``samples`` identical samples count as so many visits."""
    if not leaf.valid:
        return
    prefix = leaf.steps()[:-1]
    if ends_code(leaf.text):
        [execution] = await context.executor.execute(context.state(prefix), [leaf.text], context.limits)
        context.usage.executions += 1
        apply_execution(context.config, leaf.parent or leaf, leaf, execution)
        if leaf.valid and not leaf.terminal:
            leaf = await _answer(context, leaf, seed)
            prefix = leaf.steps()[:-1]
    elif ends_answer(leaf.text):
        leaf.terminal, leaf.answer = True, boxed(leaf.text)
    if not (leaf.valid and leaf.terminal):
        return
    if context.ppm is not None:
        scores = await context.ppm.score(context.state(prefix), [leaf.text])
        context.ppm_digest, leaf.score = scores.model_digest, scores.values[0]
        context.usage.scored += 1
    await reward_terminal(context, leaf)
    extra = samples - 1
    node: Node | None = leaf
    reward = leaf.value
    while node is not None:
        node.visits += extra
        node.value += extra * reward
        node = node.parent


async def _answer(context: SearchContext, program: Node, seed: int) -> Node:
    """Let the policy write the answer after the output of its program."""
    proposal = await context.policy.propose(context.state(program.steps()), 1, context.sampling, seed)
    [candidate] = proposal.candidates
    context.usage.tokens += candidate.tokens
    context.usage.nodes += 1
    answer = Node(program, candidate.text, candidate.tokens, candidate.logprob)
    program.children = [*(program.children or ()), answer]
    reason = malformed(candidate, code_ended=True)
    if reason:
        fail(answer, reason)
    else:
        answer.terminal, answer.answer = True, boxed(candidate.text)
    return answer
