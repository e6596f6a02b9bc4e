"""One line on a terminal while ``rstar solve`` searches: what is spent, and the answer that leads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rstar.cli.console import visible

if TYPE_CHECKING:
    from rich.console import Console

    from rstar.config import SearchConfig
    from rstar.record import Progress
    from rstar.search.solve import OnProgress

ANSWER_WIDTH: Final = 40


@contextmanager
def search_status(config: SearchConfig, console: Console | None = None) -> Iterator[OnProgress | None]:
    """Show the line, on standard error, until the context is left; without a terminal None, and nothing is shown."""
    if console is None and not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    shown_on = console or Console(stderr=True)
    with shown_on.status("searching") as line:

        def show(progress: Progress) -> None:
            text = Text(progress_text(progress, config))
            text.truncate(shown_on.width - len("⠋ "), overflow="ellipsis")
            line.update(text)

        yield show


def progress_text(progress: Progress, config: SearchConfig) -> str:
    """Return ``rollout 5/16, 42 steps, 2,100 tokens, 3 solutions, best so far: 18 (0.31)``.

    The score is the PPM's. Methods without rollouts show what they have found.
    """
    usage, leading = progress.usage, progress.leading
    parts = [f"{usage.nodes:,} steps", f"{usage.tokens:,} tokens", f"{progress.trajectories:,} solutions"]
    if config.method == "mcts":
        parts.insert(0, f"rollout {usage.rollouts:,}/{config.rollouts * config.trajectories:,}")
    if leading is not None:
        answer = visible(" ".join(leading.answer.split()))
        shown = answer if len(answer) <= ANSWER_WIDTH else answer[: ANSWER_WIDTH - 1] + "…"
        score = "" if leading.score is None else f" ({leading.score:.2f})"
        parts.append(f"best so far: {shown}{score}")
    return ", ".join(parts)
