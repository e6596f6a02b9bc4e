"""Solutions as text, and their encoding as chunks and events."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_openai import replies
from rstar_openai.request import ChatRequest
from rstar_openai.solution import NO_ANSWER, cut, solution_of

from rstar.config import SearchConfig
from rstar.problem import Problem
from rstar.trajectory import boxed
from tests.support.rpc.scripted_search import TOKENS_PER_STEP, record_of

PROBLEM = Problem("p", "q")
GSM8K_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")  # lm-evaluation-harness
GSM8K_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def request(**fields: object) -> ChatRequest:
    return ChatRequest("rstar", "q", SearchConfig(), (0,), **fields)  # type: ignore[arg-type]


def content(answer: str | None, **fields: object) -> str:
    solution = solution_of(record_of(PROBLEM, answer), request(**fields), 0)
    return "".join(solution.steps) + solution.final


@pytest.mark.parametrize("answer", ["42", "-7", "1,234.5"])
def test_graders_of_gsm8k_and_of_math_read_the_answer(answer: str) -> None:
    text = content(answer)
    assert GSM8K_STRICT.findall(text) == [answer]
    assert (GSM8K_FLEXIBLE.findall(text)[-1][0] or GSM8K_FLEXIBLE.findall(text)[-1][1]) == answer
    assert text.split()[-1] == answer
    assert boxed(text) == answer


def test_an_answer_that_is_no_number_is_boxed_alone() -> None:
    text = content(r"\frac{1}{2}")
    assert text.endswith("The answer is $\\boxed{\\frac{1}{2}}$.")


def test_steps_are_blocks_of_code_without_markers() -> None:
    text = content("42")
    assert "Step 1\n```python\n# Step 1: take the number\nx = 5\n```" in text
    assert "Output:\n```text\n42\n```" in text
    assert "So it is $\\boxed{42}$." in text
    assert "<end_of" not in text
    assert "<code>" not in text


def test_a_fence_in_an_output_does_not_end_the_block() -> None:
    assert "````text\n```\n````" in content("```")


def test_a_search_without_an_answer_says_so_and_has_no_number() -> None:
    solution = solution_of(record_of(PROBLEM, None), request(), 0)
    assert (solution.final, solution.finish_reason, solution.facts["answer"]) == (NO_ANSWER, "length", None)
    assert not re.search(r"\d", NO_ANSWER)


def test_stop_sequences_cut_the_content_before_them() -> None:
    assert content("42", stop=("The answer",)).endswith("So it is $\\boxed{42}$.\n\n")
    assert content("42", stop=("Step 1\n",)) == ""


@given(st.lists(st.text("abc", max_size=4), min_size=1, max_size=5), st.lists(st.text("abc", min_size=1), max_size=3))
def test_a_cut_text_is_the_longest_prefix_without_a_stop_sequence(parts: list[str], stops: list[str]) -> None:
    whole, kept = "".join(parts), cut(parts, stops)
    text = "".join(kept)
    assert len(kept) == len(parts)
    assert whole.startswith(text)
    assert not any(stop in text for stop in stops)
    assert text == whole or any(whole.startswith(stop, len(text)) for stop in stops)


def test_every_generated_token_is_counted_and_those_of_other_paths_as_reasoning() -> None:
    record = record_of(PROBLEM, "42", extra_tokens=100)
    usage = replies.usage_of(record.usage.tokens, [solution_of(record, request(), 0)])
    assert usage["prompt_tokens"] == 0
    assert usage["completion_tokens"] == usage["total_tokens"] == 100 + 3 * TOKENS_PER_STEP
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 100}


@pytest.mark.parametrize("steps", ["text", "reasoning"])
def test_a_streamed_solution_has_the_text_of_the_whole_one(steps: str) -> None:
    asked = request(steps=steps, stop=("####",))
    solution = solution_of(record_of(PROBLEM, "42"), asked, 0)
    deltas = replies.solution_deltas(solution, asked)
    message = replies.completion("id", 0, asked, [solution], 9)["choices"][0]["message"]
    assert len(deltas) > 3
    for field in ("content", "reasoning_content"):
        assert "".join(delta.get(field, "") for delta in deltas) == message.get(field, "")


@given(st.text())
def test_an_event_is_one_line_of_data(text: str) -> None:
    encoded = replies.event({"text": text})
    assert encoded.startswith(b"data: ")
    assert encoded.endswith(b"\n\n")
    assert b"\n" not in encoded[:-2]
    assert b"\r" not in encoded
    assert json.loads(encoded[6:]) == {"text": text}
