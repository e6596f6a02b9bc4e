"""The few-shot prompt in a file of the user's: the same for services, stages and the check of a spec."""

from __future__ import annotations

from pathlib import Path

from rstar.prompt import read_few_shot
from rstar.store.artifacts import fetch
from rstar.store.store import Store


def few_shot_file(uri: str, store: Store | None, cache: Path) -> str:
    """Return the prompt in ``store:PATH`` or a local file.

    Raises ``ValueError`` or ``OSError`` with one sentence, also when the text lacks the place of the question.
    """
    if uri.startswith("hf:"):
        raise ValueError(f"{uri}: a prompt is a file: use store:PATH or a local path")
    return read_few_shot(Path(fetch(uri, store, cache)).read_bytes(), uri)
