"""Beam search over steps, ranked by the PPM: the ``beam_width`` best steps of each level are expanded.

A finished trajectory leaves its slot, so the beam narrows as answers come in.
"""

from __future__ import annotations

from collections.abc import Callable

from rstar.search.expansion import SearchContext, expand, gather_or_cancel
from rstar.seeds import derive


async def beam(context: SearchContext, seed: int, on_level: Callable[[], None]) -> None:
    """Grow the context's tree level by level; ``on_level`` is called after each level."""
    config = context.config
    survivors = [context.root]
    width = config.beam_width
    level = 0
    while survivors and not context.done():
        grown = await gather_or_cancel(
            (expand(context, node, config.candidates, derive(seed, level, k)) for k, node in enumerate(survivors))
        )
        children = [child for siblings in grown for child in siblings if child.valid]
        children.sort(key=lambda child: child.score or 0.0, reverse=True)  # stable: earlier proposals first
        kept = children[:width]
        survivors = [child for child in kept if not child.terminal]
        width -= len(kept) - len(survivors)
        level += 1
        context.usage.rollouts += 1
        on_level()
