"""Requests as plain data: what is honoured, what is refused, and that no body raises anything but one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_openai.errors import ApiError
from rstar_openai.models import Caps, Models, default_settings
from rstar_openai.request import ChatDefaults, ChatRequest, read_body, read_request

from rstar.seeds import derive

CAPS = Caps()
MODELS = Models("rstar", {"rollouts": 8, "max_depth": 9}, CAPS)
ASK = {"model": "rstar", "messages": [{"role": "user", "content": "What is 6 times 7?"}]}


def read(**fields: Any) -> ChatRequest:
    return read_request(ASK | fields, MODELS, CAPS, ChatDefaults(), 5)


def refusal(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as found:
        read(**fields)
    assert found.value.status in {400, 404}
    return found.value


def test_a_plain_question_is_searched_with_the_settings_of_its_model() -> None:
    request = read()
    assert request.question == "What is 6 times 7?"
    assert (request.config.method, request.config.rollouts, request.config.max_depth) == ("mcts", 8, 9)
    assert request.seeds == (5,)
    assert request.config.token_budget == CAPS.token_budget


def test_a_model_of_a_method_has_that_method_and_the_same_settings() -> None:
    assert MODELS.names == ("rstar", "rstar-mcts", "rstar-best-of-n", "rstar-majority", "rstar-greedy")
    request = read(model="rstar-best-of-n")
    assert (request.config.method, request.config.rollouts) == ("best_of_n", 8)
    assert "rstar-beam" in Models("rstar", {"guidance": "ppm"}, CAPS).names


def test_search_settings_win_over_openai_fields_and_those_over_the_model() -> None:
    request = read(temperature=0.5, top_p=0.9, search={"rollouts": 3, "topP": 0.8, "max_depth": 4})
    config = request.config
    assert (config.temperature, config.top_p, config.rollouts, config.max_depth) == (0.5, 0.8, 3, 4)


def test_temperature_zero_fixes_the_seed_and_not_the_temperature_of_the_steps() -> None:
    request = read(temperature=0)
    assert (request.seeds, request.config.temperature) == ((0,), 1.0)
    assert read(temperature=0, seed=9).seeds == (9,)
    assert read(temperature=0, search={"temperature": 0}).config.temperature == 0


def test_choices_are_searches_with_derived_seeds() -> None:
    assert read(n=3, seed=7).seeds == (7, derive(7, "choice", 1), derive(7, "choice", 2))
    assert all(0 <= seed < 2**64 for seed in read(n=2, seed=-1).seeds)


def test_token_limits_become_a_budget_of_the_search_and_of_its_steps() -> None:
    config = read(max_completion_tokens=500, max_tokens=100).config
    assert (config.token_budget, config.max_new_tokens) == (500, 100)
    assert read(max_completion_tokens=10**12).config.token_budget == CAPS.token_budget
    assert read(max_tokens=10**6).config.max_new_tokens == 2_048


def test_the_question_is_the_last_message_and_the_others_are_counted() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "2+2?"}]},
    ]
    request = read(messages=messages)
    assert (request.question, request.ignored_messages) == ("And\n2+2?", 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"frequency_penalty": 0, "presence_penalty": None, "logit_bias": {}, "tools": [], "logprobs": False},
        {"response_format": {"type": "text"}, "user": "x", "metadata": {"a": "b"}, "reasoning_effort": "high"},
        {"n": None, "stop": None, "temperature": None, "search": None, "max_tokens": None},
    ],
)
def test_fields_that_ask_for_nothing_are_accepted(fields: dict[str, Any]) -> None:
    assert read(**fields).question


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tools": [{"type": "function"}]}, "tools is not supported"),
        ({"logprobs": True}, "logprobs is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty is not supported"),
        ({"temprature": 1}, "did you mean temperature?"),
        ({"model": "gpt-9"}, "does not exist"),
        ({"model": 3}, "model: must be text"),
        ({"messages": []}, "at least one message"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "the last message must be the user's question"),
        ({"messages": [{"role": "user", "content": " "}]}, "the question is empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only parts of type text"),
        ({"messages": [{"role": "user", "content": "### Task:\nGenerate a title"}]}, "task of a chat page"),
        ({"search": {"rolouts": 3}}, "search.rolouts: unknown key; did you mean rollouts?"),
        ({"search": {"rollouts": 65}}, "search.rollouts: must be at most 64 on this server, not 65"),
        ({"search": {"tokenBudget": 10**9}}, "search.tokenBudget: must be at most"),
        ({"search": {"method": "beam"}}, "set guidance: ppm"),
        ({"search": {"stopWhenSolved": True}}, "needs a verifier"),
        ({"search": {"voteTop": 3}}, "search: voteTop 3 is more than trajectories 1"),
        ({"search": [1]}, "search: must be an object"),
        ({"n": 9}, "n: must be a whole number from 1 to 8"),
        ({"n": True}, "n: must be a whole number"),
        ({"temperature": 11}, "temperature: must be a number from 0 to 10"),
        ({"top_p": 0}, "topP: must be more than 0"),
        ({"stop": 3}, "stop: must be a text"),
        ({"steps": "nowhere"}, "steps: must be text or reasoning"),
        ({"stream": "yes"}, "stream: must be true or false"),
        ({"timeout": -1}, "timeout: must be a number"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    error = refusal(**fields)
    assert sentence in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"n": NaN}', b"1" * 5_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError):
        read_body(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "messages",
    "n",
    "seed",
    "search",
    "stop",
    "temperature",
    "tools",
    "stream_options",
    "steps",
    "response_format",
]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3), JSON)
def test_no_field_raises_anything_but_one_refusal(fields: dict[str, Any], content: Any) -> None:
    for body in (ASK | fields, ASK | {"messages": [{"role": "user", "content": content}]}):
        try:
            read_request(body, MODELS, CAPS, ChatDefaults(), 0)
        except ApiError as error:
            json.dumps(error.body)


def test_default_settings_are_yaml_and_checked_at_the_start() -> None:
    assert default_settings(["rollouts=4", "execution={seconds: 2}"]) == {"rollouts": 4, "execution": {"seconds": 2}}
    for pairs, sentence in ((["rollouts"], "KEY=VALUE"), (["rolouts=3"], "did you mean rollouts"), (["a=["], "YAML")):
        with pytest.raises(ValueError, match=sentence):
            default_settings(pairs)
    with pytest.raises(ValueError, match="at most 64"):
        Models("rstar", {"rollouts": 100}, CAPS)
