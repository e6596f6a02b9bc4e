"""The text that is sent to an endpoint: the prompt and the partial trajectory, perhaps in a chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rstar.hub_name import read_hub_name
from rstar.interfaces import State
from rstar.models.chat import chat_text
from rstar.prompt import PromptStyle, render, render_prompt
from rstar.store.artifacts import fetch
from rstar.store.revisions import is_on_hub, pinned
from rstar.store.store import Store


def endpoint_prompt(
    style: PromptStyle,
    few_shot: str,
    tokenizer: str | None,
    store: Store | None,
    cache: Path,
    round_name: str | None = None,
) -> Callable[[State], str]:
    """Return the function from a state to its text. ``tokenizer``: place of the chat template, for ``chat`` only.

    ``round_name``: the round whose recorded commit of a tokenizer on the hub counts; None: the revision's current commit.
    Raises ``ValueError`` or ``OSError`` with one sentence.
    """
    if style != "chat":
        return lambda state: render(state.question, state.steps, style, few_shot)
    if tokenizer is None:
        raise ValueError(
            "--prompt chat of an endpoint needs its chat template: give --tokenizer, or --prompt bootstrap without one"
        )
    from transformers import AutoTokenizer

    if store is not None and round_name is not None:
        tokenizer = pinned(tokenizer, "model", store, round_name)
    try:
        if is_on_hub(tokenizer, "model"):
            # The files of the tokenizer alone: the model's own weights stay where they are.
            name = read_hub_name(tokenizer, "model")
            loaded = AutoTokenizer.from_pretrained(name.repository, revision=name.revision)
        else:
            loaded = AutoTokenizer.from_pretrained(fetch(tokenizer, store, cache))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--tokenizer {tokenizer} holds no tokenizer: {' '.join(str(error).split())[:300]}") from error

    def text(state: State) -> str:
        return chat_text(loaded, render_prompt(state.question, "chat", few_shot)) + "".join(state.steps)

    text(State("", ""))
    return text
