"""The chat template around the prompt: what local engines encode and what is sent to an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from rstar.models.chat import chat_text
from rstar.models.encoding import TrajectoryTokenizer
from rstar.prompt import render_prompt
from tests.support import tokenizers

TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
QUESTION = "What is 6 * 4?"
STEPS = ("<code>\nx = 6\n<end_of_step>", "\nprint(x * 4)\n<end_of_code>\n<output>24<end_of_output>\n")


def with_template(family: str, template: str = TEMPLATE) -> Any:
    tokenizer = tokenizers.EXACT[family]()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("family", tokenizers.EXACT)
def test_the_steps_continue_the_answer_of_the_assistant_as_they_are(family: str) -> None:
    tokenizer = with_template(family)
    message = render_prompt(QUESTION, "chat", "Q: {question}")
    text = chat_text(tokenizer, message)
    assert text == f"<|user|>\nQ: {QUESTION}</s>\n<|assistant|>\n"
    encoder = TrajectoryTokenizer(tokenizer)
    ids = encoder.state(QUESTION, STEPS, "chat", "Q: {question}")
    assert encoder.text(ids).removeprefix("<s>") == text + "".join(STEPS)
    parent = encoder.state(QUESTION, STEPS[:1], "chat", "Q: {question}")
    assert ids == parent + encoder.step(STEPS[1])


@pytest.mark.parametrize("family", tokenizers.EXACT)
def test_bos_is_there_once_where_the_tokenizer_adds_it(family: str) -> None:
    tokenizer = with_template(family)
    ids = TrajectoryTokenizer(tokenizer).state(QUESTION, (), "chat")
    assert ids.count(tokenizer.convert_tokens_to_ids("<s>")) == (tokenizer.bos_token is not None)


def test_a_tokenizer_without_a_template_is_refused_with_one_sentence() -> None:
    encoder = TrajectoryTokenizer(tokenizers.byte_level())
    with pytest.raises(ValueError, match="has no chat template: use the prompt bootstrap"):
        encoder.state(QUESTION, (), "chat")


def test_a_template_that_fails_is_refused_with_its_reason() -> None:
    tokenizer = with_template("byte_level", "{{ raise_exception('a system message is needed') }}")
    with pytest.raises(ValueError, match="fails: a system message is needed"):
        chat_text(tokenizer, "hello")
