"""The reference of the EvolutionRound resource, generated from the models that validate it.

``docs/spec.md`` is this text, and a test compares the two:

    python -m rstar.rounds.reference > docs/spec.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rstar.config import ExecutionSettings, SearchConfig, Settings
from rstar.rounds import evolution_spec
from rstar.rounds.cluster_spec import ClusterSpec, PodResources, ResourcesSpec, Toleration
from rstar.rounds.preference_model_spec import PreferenceModelSpec, RewardModelSpec
from rstar.rounds.problems_spec import DataSet, ProblemsSpec
from rstar.rounds.rollout_policy_spec import RolloutPolicySpec, SecretKey
from rstar.rounds.services_spec import Autoscaling, ModelAutoscaling, ModelServiceSpec, ServiceSpec, ServicesSpec
from rstar.rounds.spec import (
    API_VERSION,
    KIND,
    MUTABLE,
    EvaluateSpec,
    EvaluationMethod,
    EvolutionRoundSpec,
    LifecycleSpec,
    Metadata,
    RolloutSearch,
    RolloutSpec,
    SelectSpec,
    paper_search,
)
from rstar.rounds.training_spec import LoraSpec, PolicyTrainingSpec, PreferenceTrainingSpec, TrainingSpec

SECTIONS: Final[tuple[tuple[str, type[Settings]], ...]] = (
    ("metadata", Metadata),
    ("spec", EvolutionRoundSpec),
    ("problems", ProblemsSpec),
    ("problems.sets[]", DataSet),
    ("rollout", RolloutSpec),
    ("rollout.search", RolloutSearch),
    ("rollout.policy", RolloutPolicySpec),
    ("entry of a Secret", SecretKey),
    ("search settings", SearchConfig),
    ("execution", ExecutionSettings),
    ("preferenceModel", PreferenceModelSpec),
    ("preferenceModel.model", RewardModelSpec),
    ("select", SelectSpec),
    ("trainPolicy and trainPpm", TrainingSpec),
    ("trainPolicy", PolicyTrainingSpec),
    ("trainPpm", PreferenceTrainingSpec),
    ("trainPolicy.lora, trainPpm.lora", LoraSpec),
    ("evaluate", EvaluateSpec),
    ("evaluate.methods[]", EvaluationMethod),
    ("services", ServicesSpec),
    ("size of a service", ServiceSpec),
    ("services.policy, services.ppm", ModelServiceSpec),
    ("autoscaling", Autoscaling),
    ("autoscaling of services.policy, services.ppm", ModelAutoscaling),
    ("lifecycle", LifecycleSpec),
    ("cluster", ClusterSpec),
    ("cluster.tolerations[]", Toleration),
    ("cluster.resources", ResourcesSpec),
    ("resources of a pod", PodResources),
    ("metadata of an Evolution", evolution_spec.EvolutionMetadata),
    ("spec of an Evolution", evolution_spec.EvolutionSpec),
    ("perRound[]", evolution_spec.RoundChanges),
    ("stopWhen", evolution_spec.StopWhen),
)
"""Every object of a spec, by heading. A model whose base is listed too has only the keys that it adds or changes."""

PAPER_ROUNDS: Final = (1, 2, 3, 4)
_WORDS: Final = {int: "integer", float: "number", str: "text", bool: "true or false"}
_MUTABLE_KEYS: Final = ", ".join(f"`{name}`" for name in EvolutionRoundSpec.model_fields if name in MUTABLE)
_HEADER: Final = f"""# Every key of an EvolutionRound and of an Evolution

Generated from the models in [`rstar/rounds/spec.py`](../rstar/rounds/spec.py),
[`rstar/rounds/problems_spec.py`](../rstar/rounds/problems_spec.py),
[`rstar/rounds/rollout_policy_spec.py`](../rstar/rounds/rollout_policy_spec.py),
[`rstar/rounds/preference_model_spec.py`](../rstar/rounds/preference_model_spec.py),
[`rstar/rounds/training_spec.py`](../rstar/rounds/training_spec.py),
[`rstar/rounds/cluster_spec.py`](../rstar/rounds/cluster_spec.py),
[`rstar/rounds/evolution_spec.py`](../rstar/rounds/evolution_spec.py), [`rstar/config.py`](../rstar/config.py),
[`rstar/selection/sft.py`](../rstar/selection/sft.py) and [`rstar/selection/pairs.py`](../rstar/selection/pairs.py) by
`python -m rstar.rounds.reference`; a test keeps it current.

A file holds one or many documents with `apiVersion: {API_VERSION}`, `kind: {KIND}` or `kind: {evolution_spec.KIND}`, `metadata` and
`spec`. Unknown keys are refused. A key that is left out has the default below. On a cluster only {_MUTABLE_KEYS} of a round may
change after creation. An Evolution makes several rounds from one template: [its keys](#spec-of-an-evolution).
"""


def spec_reference() -> str:
    """Return the reference as Markdown."""
    return "\n".join([_HEADER, *(line for title, model in SECTIONS for line in _section(title, model))])


def _section(title: str, model: type[Settings]) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"{(model.__doc__ or '').partition(chr(10))[0]}\n"
    parent = _heading_of(model.__mro__[1])
    if parent is not None:
        yield f"All keys of {_link(parent)}, and these, added or with another default:\n"
    own = model.__annotations__ if parent is not None else model.model_fields
    fields = {name: field for name, field in model.model_fields.items() if name in own}
    yield from _table(("key", "value", "default", "meaning"), map(_row, fields.values()))
    if model is RolloutSearch:
        yield from _paper_table()


def _row(field: FieldInfo) -> tuple[str, str, str, str]:
    value = _value(field.annotation, field.metadata)
    return f"`{field.alias}`", value, _default(field), field.description or ""


def _paper_table() -> Iterator[str]:
    """Yield the default of ``rollout.search`` by the round's number."""
    searches = {number: paper_search(number) for number in PAPER_ROUNDS}
    names = [
        name for name in RolloutSearch.model_fields if len({getattr(search, name) for search in searches.values()}) > 1
    ]
    yield "Left out, `rollout.search` has the paper's settings for the round (4: also for later rounds); all other keys have their defaults:\n"
    keys = [f"`{RolloutSearch.model_fields[name].alias}`" for name in names]
    rows = ((str(number), *(_shown(getattr(search, name)) for name in names)) for number, search in searches.items())
    yield from _table(("round", *keys), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = list(header)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    yield ""


def _value(annotation: Any, metadata: Iterable[Any]) -> str:
    """Return the allowed values: a type and its bounds, the allowed words, or a link to another section."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *more = arguments
        return _value(inner, [*getattr(more[0], "metadata", more), *metadata])
    if origin in {Union, UnionType}:
        [inner] = [argument for argument in arguments if argument is not NoneType]
        return _value(inner, metadata)
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin is tuple:
        return ", ".join([f"list; each: {_value(arguments[0], ())}", *_bounds(metadata, "entries")])
    if origin is dict:
        values = get_args(annotation)[1]
        held = "keys of a spec" if values is Any else "map of text to text"
        return ", ".join([held, *_bounds(metadata, "entries")])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _link(_heading_of(annotation) or annotation.__name__)
    return ", ".join([_WORDS[annotation], *_bounds(metadata)])


def _bounds(metadata: Iterable[Any], unit: str = "characters") -> Iterator[str]:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    for item in metadata:
        for name, word in words.items():
            if (limit := getattr(item, name, None)) is not None:
                yield f"{word} {_number(limit)}"
        if (length := getattr(item, "max_length", None)) is not None:
            yield f"at most {length} {unit}"
        if (pattern := getattr(item, "pattern", None)) is not None:
            yield f"of the form `{pattern}`"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is dict:
        return "empty"
    return "its defaults" if field.default_factory is not None else _shown(field.default)


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{_number(value) if isinstance(value, int | float) else value}`"


def _number(value: float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "2^63" if value == 2**63 else str(value)


def _heading_of(model: type) -> str | None:
    return next((title for title, listed in SECTIONS if listed is model), None)


def _link(title: str) -> str:
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{title}](#{anchor})"


if __name__ == "__main__":
    print(spec_reference(), end="")
