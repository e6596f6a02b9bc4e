"""Reads a YAML file of EvolutionRounds and Evolutions, and reports all its faults at once before any work starts.

Each fault is one sentence: file, round, path in the document, what is wrong, how to mend it. In addition to the spec's
own validation it checks the chain of previous rounds, the verifier's name, every line of the problem files and the base
model's folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rstar.hub_name import SCHEME, HubKind, read_hub_name
from rstar.models.prompt_file import few_shot_file
from rstar.rounds.documents import Document, YamlError, read_documents
from rstar.rounds.evolution_spec import KIND, Evolution, round_documents
from rstar.rounds.problems import read_source
from rstar.rounds.problems_spec import Source
from rstar.rounds.spec import EvolutionRound, RolloutSpec
from rstar.rounds.validation_errors import nearest, validation_messages
from rstar.store.revisions import is_on_hub
from rstar.store.store import Store
from rstar.verify import verifier_names

M = TypeVar("M", bound=BaseModel)

NumberOf = Callable[[str], int | None]
"""Returns the number of a round by its name, if an earlier run recorded it."""


class SpecError(ValueError):
    """A file that cannot be run. ``faults`` are sentences; the message is all of them, one per line."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load_rounds(path: Path, store: Store | None = None, number_of: NumberOf = lambda _: None) -> list[EvolutionRound]:
    """Return the rounds of ``path``, by number. Local paths in a spec are relative to the current folder.

    ``store`` is where ``store:`` URIs and earlier rounds are looked up. Raises ``SpecError``.
    """
    rounds, faults = _parse(path)
    for item in rounds:
        faults += [f"{path}: round {item.name}: {fault}" for fault in _spec_faults(item)]
    if not faults:
        faults += [f"{path}: {fault}" for fault in _chain_faults(rounds, number_of)]
        faults += [f"{path}: {fault}" for fault in _file_faults(rounds, store)]
    if faults:
        raise SpecError(faults)
    return sorted(rounds, key=lambda item: item.spec.round)


def parse_rounds(path: Path) -> list[EvolutionRound]:
    """Return the rounds of ``path`` in the order of the file; each is valid by itself. Raises ``SpecError``."""
    rounds, faults = _parse(path)
    if faults:
        raise SpecError(faults)
    return rounds


def parse_evolutions(path: Path) -> list[Evolution]:
    """Return the evolutions of a file that ``parse_rounds`` accepts."""
    documents = read_documents(path.read_text(encoding="utf-8"))
    return [_validated(Evolution, one.content) for one in documents if one.content.get("kind") == KIND]


def _parse(path: Path) -> tuple[list[EvolutionRound], list[str]]:
    try:
        documents = read_documents(path.read_text(encoding="utf-8"))
    except OSError as error:
        return [], [f"{path}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError:
        return [], [f"{path}: is not a text file in UTF-8"]
    except YamlError as error:
        return [], [f"{_place(path, line)}: {fault}" for line, fault in error.faults]
    if not documents:
        return [], [f"{path}: holds no EvolutionRound"]
    rounds: list[EvolutionRound] = []
    faults: list[str] = []
    for number, document in enumerate(documents, 1):
        kind = document.content.get("kind") if isinstance(document.content, dict) else None
        found, wrong = _of_evolution(document, number) if kind == KIND else _of_round(document, number)
        rounds += found
        faults += [f"{_place(path, line)}: {fault}" for line, fault in wrong]
    return rounds, faults


Faults = list[tuple[int | None, str]]
"""Sentences with their lines in the file."""


def _of_round(document: Document, number: int) -> tuple[list[EvolutionRound], Faults]:
    try:
        return [_validated(EvolutionRound, document.content)], []
    except ValidationError as error:
        return [], _faults(document, error, EvolutionRound, _label(document.content, number, "round"))


def _faults(document: Document, error: ValidationError, model: type[BaseModel], label: str) -> Faults:
    lines = [document.line(detail["loc"]) for detail in error.errors(include_url=False)]
    messages = validation_messages(error, model)
    return [(line, f"{label}: {message}") for line, message in zip(lines, messages, strict=True)]


def _of_evolution(document: Document, number: int) -> tuple[list[EvolutionRound], Faults]:
    """Return the rounds of an evolution. A fault of the template is given once, at its line there."""
    label = _label(document.content, number, "evolution")
    try:
        evolution = _validated(Evolution, document.content)
    except ValidationError as error:
        return [], _faults(document, error, Evolution, label)
    changed = {item.round: position for position, item in enumerate(evolution.spec.per_round)}
    rounds: list[EvolutionRound] = []
    faults: dict[tuple[int | None, str], None] = {}
    for content in round_documents(evolution):
        try:
            rounds.append(_validated(EvolutionRound, content))
        except ValidationError as error:
            messages = validation_messages(error, EvolutionRound)
            for detail, message in zip(error.errors(include_url=False), messages, strict=True):
                inner = detail["loc"][1:]
                own = ("spec", "perRound", changed.get(content["spec"]["round"], -1), "spec", *inner)
                of_round = own in document.lines
                line = document.line(own if of_round else ("spec", "template", *inner))
                where = f", round {content['spec']['round']}" if of_round else ""
                faults[line, f"{label}{where}: {message}"] = None
    return rounds, list(faults)


def _validated(model: type[M], content: Any) -> M:
    """Validate a document as strictly as the API server: no text for a number, and keys in camelCase only."""
    # As JSON, where a list is as good as a tuple; plain Python data would have to be tuples in strict mode.
    return model.model_validate_json(json.dumps(content), strict=True, by_alias=True, by_name=False)


def _place(path: Path, line: int | None) -> str:
    return f"{path}:{line}" if line else str(path)


def _label(document: Any, number: int, kind: str) -> str:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{kind} {name}" if name else f"document {number}"


def _spec_faults(item: EvolutionRound) -> Iterator[str]:
    spec = item.spec
    if spec.verifier not in verifier_names():
        yield f"spec.verifier: unknown verifier {spec.verifier!r}{nearest(spec.verifier, verifier_names())}"
    if spec.round == 1 and spec.preference_model.use == "always":
        yield "spec.preferenceModel.use: always needs the PPM of a previous round, and round 1 has none; use auto or never"
    if spec.evaluate.methods and spec.evaluate.problems is None:
        yield "spec.evaluate.problems: missing; the methods need held-out problems"
    for number, method in enumerate(spec.evaluate.methods):
        if method.method in {"beam", "best_of_n"} and method.guidance != "ppm":
            yield f"spec.evaluate.methods[{number}].guidance: must be ppm, because {method.method} chooses by the PPM"


def _chain_faults(rounds: list[EvolutionRound], number_of: NumberOf) -> Iterator[str]:
    counts = Counter(item.name for item in rounds)
    yield from (
        f"round {name}: metadata.name: {count} rounds have this name" for name, count in counts.items() if count > 1
    )
    numbers = {item.name: item.spec.round for item in rounds}
    without_ppm = {item.name for item in rounds if not item.spec.trains_ppm}
    for item in rounds:
        before = item.spec.previous_round
        if before is None:
            continue
        where = f"round {item.name}: spec.previousRound"
        number = numbers.get(before) or number_of(before)
        if number is None:
            others = [name for name in numbers if name != item.name]
            hint = nearest(before, others) if others else "; run it first or add it to the file"
            yield f"{where}: there is no round {before!r} in this file or the store{hint}"
        elif number != item.spec.round - 1:
            yield f"{where}: {before} is round {number}, but round {item.spec.round} follows round {item.spec.round - 1}"
        elif item.spec.preference_model.use == "always" and before in without_ppm:
            yield (
                f"round {item.name}: spec.preferenceModel.use: always needs the PPM of round {before}, which trains none; "
                "use auto there, without preferenceModel.model"
            )


def _file_faults(rounds: list[EvolutionRound], store: Store | None) -> Iterator[str]:
    checked: set[Source] = set()
    for item in rounds:
        spec = item.spec
        if fault := _model_fault(spec.base_model, store):
            yield f"round {item.name}: spec.baseModel: {fault}"
        ppm = spec.preference_model.model
        if ppm is not None and (fault := _model_fault(ppm.uri, store)):
            yield f"round {item.name}: spec.preferenceModel.model.uri: {fault}"
        for key, fault in _rollout_faults(spec.rollout, store):
            yield f"round {item.name}: spec.rollout.{key}: {fault}"
        for where, problems in (("problems", spec.problems), ("evaluate.problems", spec.evaluate.problems)):
            sources = [source for source in problems.sources() if source not in checked] if problems else []
            checked.update(sources)
            for fault in (fault for source in sources for fault in _source_faults(source, store)):
                yield f"round {item.name}: spec.{where}: {fault}"


def _model_fault(uri: str, store: Store | None) -> str:
    if uri.startswith(SCHEME):
        return _hub_fault(uri, "model")
    if uri.startswith("store:"):
        key = f"{uri.removeprefix('store:').rstrip('/')}/config.json"
        return "" if store is None or store.exists(key) else f"the store holds no {key}; put the model there first"
    return "" if Path(uri, "config.json").is_file() else f"{uri} is not a model folder: it has no config.json"


def _hub_fault(uri: str, kind: HubKind) -> str:
    """Return what is wrong with the form of a name on the hub, which is not asked here; '' if nothing."""
    try:
        read_hub_name(uri, kind)
    except ValueError as error:
        return str(error)
    return ""


def _rollout_faults(rollout: RolloutSpec, store: Store | None) -> Iterator[tuple[str, str]]:
    """Yield (key, fault) for the model, the tokenizer and the prompt that a rollout names."""
    policy = rollout.policy
    if policy is not None and policy.model is not None and (fault := _model_fault(policy.model, store)):
        yield "policy.model", fault
    if policy is not None and policy.tokenizer is not None and (fault := _tokenizer_fault(policy.tokenizer, store)):
        yield "policy.tokenizer", fault
    if rollout.prompt_file is not None and (store is not None or not rollout.prompt_file.startswith("store:")):
        with TemporaryDirectory() as cache:
            try:
                few_shot_file(rollout.prompt_file, store, Path(cache))
            except (ValueError, OSError) as error:
                yield "promptFile", str(error)


def _tokenizer_fault(uri: str, store: Store | None) -> str:
    if uri.startswith(SCHEME):
        return _hub_fault(uri, "model")
    if uri.startswith("store:"):
        key = f"{uri.removeprefix('store:').rstrip('/')}/tokenizer.json"
        return "" if store is None or store.exists(key) else f"the store holds no {key}; put the tokenizer there first"
    return "" if Path(uri, "tokenizer.json").is_file() else f"{uri} holds no tokenizer: it has no tokenizer.json"


def _source_faults(source: Source, store: Store | None) -> list[str]:
    """Read the rows that the round would use, and return one fault per bad row."""
    if is_on_hub(source.uri, "dataset"):
        return [fault] if (fault := _hub_fault(source.uri, "dataset")) else []
    if source.uri.startswith(SCHEME) or (store is None and source.uri.startswith("store:")):
        return []
    with TemporaryDirectory() as cache:
        try:
            read_source(source, store, Path(cache))
        except (ValueError, OSError) as error:
            return str(error).splitlines()
    return []
