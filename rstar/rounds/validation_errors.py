"""Pydantic's validation errors as messages for users: path in the document, what is wrong, how to mend it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def nearest(word: str, words: Iterable[str]) -> str:
    """Return '; did you mean X?' for the word nearest to ``word``, or the list of all when none is near."""
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        folded = {w.lower(): w for w in known}
        close = [folded[m] for m in difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)]
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def validation_messages(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one sentence per error, after its path in the document (``spec.rollout.shardSize``)."""
    return [f"{dotted(detail['loc'])}: {_message(detail, model)}" for detail in error.errors(include_url=False)]


def dotted(location: Iterable[int | str]) -> str:
    """Return ``spec.methods[0].name`` for ('spec', 'methods', 0, 'name')."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "document"


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    location = detail["loc"]
    if kind == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        return f"unknown key{nearest(str(location[-1]), _keys(parent)) if parent else ''}"
    if kind == "missing":
        return f"missing; {_description(model, location)}"
    if kind == "literal_error":
        allowed = context["expected"].replace("'", "")
        return f"must be {allowed}, not {given!r}"
    bounds = {
        "greater_than_equal": "at least",
        "greater_than": "more than",
        "less_than_equal": "at most",
        "less_than": "less than",
    }
    if kind in bounds:
        limit = next(context[key] for key in ("ge", "gt", "le", "lt") if key in context)
        return f"must be {bounds[kind]} {limit:g}, not {given!r}"
    if kind == "string_pattern_mismatch":
        return f"{given!r} does not have the form {context['pattern']}; {_description(model, location)}"
    if kind in _TYPES:
        hint = "; remove the quotes" if isinstance(given, str) and kind != "string_type" else ""
        return f"must be {_TYPES[kind]}, not {_shown(given)}{hint}"
    if kind == "value_error":
        return str(context["error"])
    message = detail["msg"].replace("Input should be", "must be").replace("String should", "must")
    return f"{message[0].lower()}{message[1:]}, not {given!r}" if not isinstance(given, dict) else message


_TYPES: Final = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
}


def _shown(given: Any) -> str:
    """Return a value as YAML has it."""
    return json.dumps(given) if given is None or isinstance(given, bool) else repr(given)


def _model_at(model: type[BaseModel], location: Iterable[int | str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        if current is None:
            return None
        field = next((f for n, f in current.model_fields.items() if part in {n, f.alias}), None)
        current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside ``X | None``, ``tuple[X, ...]`` or ``Annotated[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Union, UnionType, tuple, list, Annotated}:
        return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)
    return None


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _description(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    parent = _model_at(model, location[:-1])
    for name, field in parent.model_fields.items() if parent else ():
        if location[-1] in {name, field.alias} and field.description:
            return field.description
    return "add it"
