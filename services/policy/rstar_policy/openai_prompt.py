"""The text that is sent to an endpoint: the prompt and the partial trajectory, perhaps in a chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rstar.interfaces import State
from rstar.models.chat import chat_text
from rstar.prompt import PromptStyle, render, render_prompt
from rstar.store.artifacts import fetch
from rstar.store.store import Store


def endpoint_prompt(
    style: PromptStyle, few_shot: str, tokenizer: str | None, store: Store | None, cache: Path
) -> Callable[[State], str]:
    """Return the function from a state to its text. ``tokenizer``: place of the chat template, for ``chat`` only.

    Raises ``ValueError`` or ``OSError`` with one sentence.
    """
    if style != "chat":
        return lambda state: render(state.question, state.steps, style, few_shot)
    if tokenizer is None:
        raise ValueError(
            "--prompt chat of an endpoint needs its chat template: give --tokenizer, or --prompt bootstrap without one"
        )
    from transformers import AutoTokenizer

    place = fetch(tokenizer, store, cache)
    try:
        loaded = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--tokenizer {tokenizer} holds no tokenizer: {' '.join(str(error).split())[:300]}") from error

    def text(state: State) -> str:
        return chat_text(loaded, render_prompt(state.question, "chat", few_shot)) + "".join(state.steps)

    text(State("", ""))
    return text
