"""Monte Carlo tree search over steps (section 3.2): selection by UCT, expansion, backup. No random playout.

One rollout is one descent from the root: a node without children is expanded, and the descent continues in
the best child until the path ends. A terminal whose verdict is known is never visited again.
"""

from __future__ import annotations

from collections.abc import Callable

from rstar.search.expansion import SearchContext, expand
from rstar.search.tree import Node, close, select_child
from rstar.seeds import derive

BARREN_PASSES = 2
"""A node is exhausted after this many widening passes in a row that proposed nothing new."""


async def mcts(context: SearchContext, seed: int, on_rollout: Callable[[], None]) -> None:
    """Grow the context's tree by ``config.rollouts`` rollouts; ``on_rollout`` is called after each.

    Ends earlier when the whole tree is closed, the token budget is spent, or (``stop_when_solved``) a trajectory
    is correct.
    """
    root = context.root
    expansions = 0
    for _ in range(context.config.rollouts):
        expansions = await rollout(context, root, seed, expansions)
        context.usage.rollouts += 1
        on_rollout()
        if root.closed or context.done():
            break


async def rollout(context: SearchContext, root: Node, seed: int, expansions: int) -> int:
    """Descend once from the root, expanding on the way; return the number of the tree's expansions so far.

    Each expansion has its own seed, derived from its number.
    """
    config = context.config
    node: Node | None = root
    while node is not None:
        wanted = config.candidates if node.children is None else 0 if node.exhausted else config.widening
        if wanted and not context.spent():
            await expand(context, node, wanted, derive(seed, expansions))
            expansions += 1
            node.exhausted = node.exhausted or not config.widening or node.barren >= BARREN_PASSES
        child = select_child(node, config.exploration, config.unvisited)
        if child is None and node.exhausted:
            close(node)
        node = child
    return expansions
