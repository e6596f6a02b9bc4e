"""A message in the chat template of an instruct model, up to the beginning of the assistant's answer."""

from __future__ import annotations

from typing import Any


def chat_text(tokenizer: Any, message: str) -> str:
    """Return the text after which the model writes its answer to the user's ``message``.

    Without the beginning-of-text token where the tokenizer adds it by itself. Raises ``ValueError`` with one sentence
    for a tokenizer without a chat template, or with one that needs more than a user's message.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path} has no chat template: use the prompt bootstrap, or an instruct model"
        )
    messages = [{"role": "user", "content": message}]
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program of the model's author
        raise ValueError(f"the chat template of {tokenizer.name_or_path} fails: {error}") from error
    bos = tokenizer.bos_token
    adds_bos = bos is not None and tokenizer.encode("")[:1] == [tokenizer.bos_token_id]
    return text.removeprefix(bos) if adds_bos else text
