"""A chat completion request as plain data: JSON in, one search per choice out. Pure.

Every field is honoured, ignored because it cannot change the answer, or refused with one sentence: README.md has the list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from rstar.config import SearchConfig
from rstar.rounds.validation_errors import nearest
from rstar.seeds import derive
from rstar_openai.errors import ApiError, bad_request
from rstar_openai.models import Caps, Models, capped, search_config

Place = Literal["text", "reasoning"]
"""Where the steps of the solution are shown: in the content, or in ``reasoning_content``."""

_PLACES: Final[tuple[Place, ...]] = get_args(Place)
_READ: Final = frozenset(
    {"model", "messages", "n", "seed", "stream", "stream_options", "temperature", "top_p", "max_tokens"}
    | {"max_completion_tokens", "stop", "search", "steps", "progress", "timeout"}
)
_IGNORED: Final = frozenset(
    {"user", "metadata", "store", "service_tier", "parallel_tool_calls", "reasoning_effort", "safety_identifier"}
    | {"prompt_cache_key", "prompt_cache_retention", "verbosity", "tool_choice", "function_call"}
)
"""Fields that cannot change an answer of a search, or that other fields make meaningless here."""

_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "top_k": (None, 0, -1),
    "min_p": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
}
"""Fields that a search cannot honour, with the values that ask for nothing."""

MAX_STOPS: Final = 16
_MOST_INTEGER: Final = 2**63 - 1
_CHAT_PAGE_TASK: Final = "### Task:"
"""How the prompts begin with which Open WebUI asks for titles, tags and follow-up questions."""


@dataclass(frozen=True, slots=True)
class ChatDefaults:
    """What the server's options set for requests that do not say it."""

    steps: Place = "text"
    progress: bool = True


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid request: one search per seed. ``timeout`` is the client's own limit in seconds, if it has one."""

    model: str
    question: str
    config: SearchConfig
    seeds: tuple[int, ...]
    ignored_messages: int = 0
    stream: bool = False
    include_usage: bool = False
    steps: Place = "text"
    progress: bool = True
    stop: tuple[str, ...] = ()
    timeout: float | None = None


def read_body(body: bytes) -> dict[str, Any]:
    """Decode the body of a request. Raises ``ApiError``."""
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise bad_request("the body is nested too deeply") from None
    except ValueError as error:
        reason = (
            f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "invalid text or number"
        )
        raise bad_request(f"the body is not JSON ({reason})") from None
    if not isinstance(content, dict):
        raise bad_request("the body must be a JSON object")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(name)


def read_request(
    body: Mapping[str, Any], models: Models, caps: Caps, defaults: ChatDefaults, random_seed: int
) -> ChatRequest:
    """Read a request; ``random_seed`` is used where it has none. Raises ``ApiError`` 400 or 404 with one sentence."""
    for field in body:
        if field not in _READ and field not in _IGNORED and field not in _NEUTRAL:
            raise bad_request(
                f"unknown field {field[:64]!r}{nearest(field[:64], _READ)}", field[:64], "unknown_parameter"
            )
    for field, neutral in _NEUTRAL.items():
        if body.get(field) not in neutral:
            raise bad_request(
                f"{field} is not supported: a search cannot honour it; leave it out", field, "unsupported_parameter"
            )
    model = _text(body, "model")
    settings = models.settings_of(model)
    if settings is None:
        raise ApiError(
            404,
            f"the model {model[:64]!r} does not exist{nearest(model[:64], models.names)}",
            param="model",
            code="model_not_found",
        )
    question, ignored = _question(body.get("messages"))
    n = _whole(body, "n", 1, 1, caps.choices)
    seed, config = _config(body, settings, caps, random_seed)
    stream = _flag(body, "stream", False)
    return ChatRequest(
        model,
        question,
        config,
        tuple(seed if i == 0 else derive(seed, "choice", i) for i in range(n)),
        ignored,
        stream,
        stream and _include_usage(body.get("stream_options")),
        _steps(body.get("steps"), defaults.steps),
        _flag(body, "progress", defaults.progress),
        _stops(body.get("stop")),
        _number(body, "timeout", 0.001, 86_400),
    )


def _config(
    body: Mapping[str, Any], settings: Mapping[str, Any], caps: Caps, random_seed: int
) -> tuple[int, SearchConfig]:
    """Return the seed and the search settings: the model's, then OpenAI's fields, then ``search``."""
    changes: dict[str, Any] = {}
    temperature = _number(body, "temperature", 0, 10)
    if temperature:
        changes["temperature"] = temperature
    if (top_p := _number(body, "top_p", 0, 1)) is not None:
        changes["topP"] = top_p
    if (budget := _whole(body, "max_completion_tokens", 0, 1, _MOST_INTEGER)) > 0:
        changes["tokenBudget"] = min(budget, caps.token_budget)
    search = body.get("search")
    if search is not None and not isinstance(search, dict):
        raise bad_request('search: must be an object of search settings, such as {"rollouts": 16}', "search")
    names = {name: field.alias or name for name, field in SearchConfig.model_fields.items()}
    merged = {names.get(key, key): value for part in (settings, changes, search or {}) for key, value in part.items()}
    try:
        config = search_config(merged, "search")
        if (longest := _whole(body, "max_tokens", 0, 1, _MOST_INTEGER)) > 0:
            config = config.model_copy(update={"max_new_tokens": min(config.max_new_tokens, longest)})
        config = capped(config, caps, "search")
    except ValueError as error:
        raise bad_request(str(error), "search") from None
    # One reproducible answer: a fixed seed. Steps sampled at temperature 0 would all be equal, and nothing to search.
    unset = 0 if temperature == 0 else random_seed
    seed = _whole(body, "seed", unset, -_MOST_INTEGER - 1, _MOST_INTEGER)
    return seed % 2**64, config


def _question(messages: Any) -> tuple[str, int]:
    """Return the text of the last message and the number of the others."""
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages: must be a list with at least one message", "messages")
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise bad_request(f"messages[{i}]: must be an object with role and content", "messages")
    last, where = messages[-1], f"messages[{len(messages) - 1}]"
    if last["role"] != "user":
        raise bad_request(
            f"{where}: the last message must be the user's question, not of role {last['role'][:32]!r}", "messages"
        )
    question = _content(last.get("content"), f"{where}.content").strip()
    if not question:
        raise bad_request(f"{where}.content: the question is empty", "messages")
    if question.startswith(_CHAT_PAGE_TASK):
        raise bad_request(
            f"{where}.content: this is a task of a chat page (title, tags, follow-up questions) and no question to search; choose another model for these tasks, or turn them off",
            "messages",
            "chat_page_task",
        )
    return question, len(messages) - 1


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise bad_request(f"{where}: must be text, or a list of parts of type text", "messages")
    texts = []
    for i, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise bad_request(f"{where}[{i}]: only parts of type text can be searched", "messages")
        texts.append(part["text"])
    return "\n".join(texts)


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{field}: must be text", field)
    return value


def _flag(body: Mapping[str, Any], field: str, default: bool) -> bool:
    value = body.get(field)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise bad_request(f"{field}: must be true or false", field)
    return value


def _whole(body: Mapping[str, Any], field: str, default: int, least: int, most: int) -> int:
    value = body.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise bad_request(f"{field}: must be a whole number from {least} to {most}", field)
    return value


def _number(body: Mapping[str, Any], field: str, least: float, most: float) -> float | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise bad_request(f"{field}: must be a number from {least:g} to {most:g}", field)
    return float(value)


def _include_usage(options: Any) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict):
        raise bad_request("stream_options: must be an object", "stream_options")
    return _flag(options, "include_usage", False)


def _steps(value: Any, default: Place) -> Place:
    if value is None:
        return default
    for place in _PLACES:
        if value == place:
            return place
    raise bad_request(f"steps: must be {' or '.join(_PLACES)}", "steps")


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) for s in stops):
        raise bad_request(f"stop: must be a text or at most {MAX_STOPS} texts", "stop")
    return tuple(stop for stop in stops if stop)
