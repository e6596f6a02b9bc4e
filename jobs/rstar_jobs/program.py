"""What every stage program is outside its work: arguments in, one result out, an exit code that means something.

    0 done | 1 failed, may be tried again | 2 bad input, trying again cannot help | 143 ended by SIGTERM, resumable

The result file is also a pod's termination message: at most 4,096 bytes. The module refuses to know any stage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
import yaml
from pydantic import ValidationError

from rstar.problem import Problem
from rstar.readers import read_hub, read_problems
from rstar.rounds.manifest import Manifest, canonical, digest_of
from rstar.rounds.observed import BAD_INPUT, ManifestRef, Stage
from rstar.rounds.spec import EvolutionRound, ProblemsSpec
from rstar.rounds.stage import download_output, load_input
from rstar.rounds.validation_errors import sentences
from rstar.rpc.logs import configure_logs
from rstar.store.artifacts import fetch
from rstar.store.digests import checkpoint_digest
from rstar.store.open import open_store
from rstar.store.store import Store, StoreError
from rstar_jobs.progress import Progress, open_destination

RESULT_BYTES: Final = 4_096
TERMINATED: Final = 143
INPUT_STAGES: Final = {
    "rollout": Stage.ROLLOUT,
    "select": Stage.SELECT,
    "policy": Stage.TRAIN_POLICY,
    "ppm": Stage.TRAIN_PPM,
}
"""Which stage wrote an input, by the input's name."""


class BadInputError(Exception):
    """The stage refuses its input; the message is one sentence."""


class TerminatedError(Exception):
    """SIGTERM came; what was finished is in the store."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a stage program was asked to do."""

    round: EvolutionRound
    store: Store
    inputs: Mapping[str, ManifestRef]
    search: tuple[str, ...]
    cache: Path
    progress: Progress

    def need(self, name: str) -> ManifestRef:
        """Return an input. Raises ``BadInputError`` when it was not given."""
        if name not in self.inputs:
            raise BadInputError(f"the input {name} is missing: give --input {name}=KEY@DIGEST")
        return self.inputs[name]

    def load(self, name: str) -> Manifest:
        """Return an input's manifest, verified. Raises ``BadInputError`` when it is missing or not what it should be."""
        if name not in INPUT_STAGES:
            raise BadInputError(f"there is no input {name}: known are {', '.join(INPUT_STAGES)}")
        try:
            return load_input(self.store, self.need(name), INPUT_STAGES[name])
        except ValueError as error:
            raise BadInputError(str(error)) from None

    def download(self, name: str, manifest: Manifest, path: str, target: Path) -> Path:
        """Copy a file of an input to ``target``. Raises ``BadInputError`` when it does not match its manifest."""
        try:
            return download_output(self.store, self.need(name), manifest, path, target)
        except ValueError as error:
            raise BadInputError(str(error)) from None


Work = Callable[[Invocation], tuple[ManifestRef, Manifest] | None]
"""Does a stage and returns its manifest; None in a process that does not lead."""


def run(stage: Stage, work: Work, arguments: Sequence[str] | None = None) -> int:
    """Run a stage program and return its exit code. Only process 0 of a distributed run reports."""
    options = _parser(stage).parse_args(arguments)
    leader = os.environ.get("RANK", "0") == "0"
    configure_logs(f"stage-{stage}")
    _end_at_once_on_sigterm(options.result, leader)
    try:
        progress = Progress(open_destination(options.progress) if leader else None, stage)
    except ValueError as error:
        return _fail(options.result, leader, BAD_INPUT, str(error))
    code = _run(stage, work, options, leader, progress)
    progress.close()
    return code


def _run(stage: Stage, work: Work, options: argparse.Namespace, leader: bool, progress: Progress) -> int:
    started = datetime.now(UTC)
    try:
        invocation = _invocation(options, stage, progress)
        done = work(invocation)
    except TerminatedError as error:
        return _fail(options.result, leader, TERMINATED, str(error))
    except BadInputError as error:
        return _fail(options.result, leader, BAD_INPUT, str(error))
    except StoreError as error:
        return _fail(options.result, leader, 1, str(error))
    except Exception as error:
        traceback.print_exc()
        return _fail(options.result, leader, 1, _sentence(error))
    if leader and done is not None:
        ref, manifest = done
        _note_run(invocation, ref, started)
        write_atomically(options.result, result_bytes(ref, manifest.metrics))
        structlog.get_logger().info("stage done", manifest=ref.key)
    return 0


def result_bytes(ref: ManifestRef, metrics: Mapping[str, Any]) -> bytes:
    """Return the result; the largest metrics are left out, and named, where it would be longer than 4,096 bytes."""
    kept, omitted = dict(metrics), list[str]()
    while True:
        shown = {**kept, "omitted": omitted} if omitted else kept
        data = canonical({"manifest": ref.key, "digest": ref.digest, "metrics": shown})
        if len(data) <= RESULT_BYTES or not kept:
            return data
        largest = max(kept, key=lambda name: len(canonical({name: kept[name]})))
        omitted.append(largest)
        del kept[largest]


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a small file so that a reader sees the old or the new one.

    Where its folder takes no other file, as that of a pod's termination message, it is written in place.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        # Also of a file that is not there, where the file system is read-only.
        with contextlib.suppress(OSError):
            temporary.unlink()
        path.write_bytes(data)


def _parser(stage: Stage) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"rstar_jobs.{stage.replace('-', '_')}", description=f"Stage {stage}.")
    parser.add_argument("--round", required=True, type=Path, metavar="FILE", help="the EvolutionRound, as YAML")
    parser.add_argument("--store", required=True, metavar="URI", help="a folder or s3://BUCKET/PREFIX")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=KEY@DIGEST", help="repeatable")
    parser.add_argument("--result", required=True, type=Path, metavar="FILE", help="gets the manifest's key and digest")
    parser.add_argument(
        "--progress",
        required=True,
        metavar="FILE|configmap:NAME",
        help="a file, replaced about once a second, or a ConfigMap of the pod's namespace",
    )
    parser.add_argument("--search", default="", metavar="HOST:PORT[,...]", help="search coordinators")
    parser.add_argument("--cache", type=Path, default=Path(".rstar/cache"), metavar="FOLDER", help="fetched artefacts")
    return parser


def _invocation(options: argparse.Namespace, stage: Stage, progress: Progress) -> Invocation:
    item = _read_round(options.round)
    try:
        store = open_store(options.store)
    except ValueError as error:
        raise BadInputError(str(error)) from None
    inputs = dict(_read_input(text) for text in options.input)
    search = tuple(address for address in options.search.split(",") if address)
    structlog.get_logger().info("stage starts", stage=stage, round=item.name, store=store.uri)
    return Invocation(item, store, inputs, search, options.cache, progress)


def _read_round(path: Path) -> EvolutionRound:
    try:
        return EvolutionRound.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise BadInputError(f"{path}: {'; '.join(sentences(error, EvolutionRound))}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise BadInputError(f"{path} cannot be read as one EvolutionRound: {reason}") from None


def _read_input(text: str) -> tuple[str, ManifestRef]:
    name, equals, rest = text.partition("=")
    key, at, digest = rest.rpartition("@")
    if not (name and equals and key and at and len(digest) == 64):
        raise BadInputError(f"--input {text!r} is not NAME=KEY@DIGEST with a sha256 in hex")
    return name, ManifestRef(key, digest)


def _fail(result: Path, leader: bool, code: int, reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    if leader:
        write_atomically(result, canonical({"error": reason[:2_000], "exit_code": code}))
    return code


def _end_at_once_on_sigterm(result: Path, leader: bool) -> None:
    """Tell of SIGTERM and end, wherever the work does not itself end in order.

    All writes are atomic and all work is gone on with. A container's first process would otherwise ignore it.
    """

    def end(*_: object) -> None:
        try:
            _fail(result, leader, TERMINATED, "ended by SIGTERM; what was finished is stored")
        finally:
            os._exit(TERMINATED)

    signal.signal(signal.SIGTERM, end)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _note_run(invocation: Invocation, ref: ManifestRef, started: datetime) -> None:
    """Write ``run.json`` beside the manifest: times are kept out of it, so that equal work has equal digests."""
    key = f"{ref.prefix}/run.json"
    if not invocation.store.exists(key):
        now = datetime.now(UTC)
        seconds = (now - started).total_seconds()
        times = {"started": started.isoformat(), "finished": now.isoformat(), "seconds": seconds}
        invocation.store.write(key, canonical({**times, "last_progress": invocation.progress.last}))


def load_problems(spec: ProblemsSpec, invocation: Invocation) -> list[Problem]:
    """Return the problems of ``spec``, in order. Raises ``BadInputError``."""
    try:
        place = fetch(spec.uri, invocation.store, invocation.cache)
        if isinstance(place, Path):
            problems = read_problems(place, spec.format, limit=spec.limit)
        else:
            problems = read_hub(place, spec.split, spec.format, spec.limit)
    except (ValueError, FileNotFoundError) as error:
        raise BadInputError(str(error)) from None
    if not problems:
        raise BadInputError(f"{spec.uri} holds no problems")
    return problems


def problems_digest(problems: list[Problem]) -> str:
    """Return the sha256 over the problems: the same wherever the file lies."""
    return digest_of(canonical({"problems": [asdict(problem) for problem in problems]}))


CHECKPOINT = "checkpoint"
"""Folder of a training stage in which its model lies, in Hugging Face's format."""


def base_model(invocation: Invocation) -> tuple[Path | str, str]:
    """Return where the spec's base model is, and its digest (``hf:NAME`` for a hub's). Raises ``BadInputError``."""
    uri = invocation.round.spec.base_model
    place = _fetch(uri, invocation)
    return place, checkpoint_digest(place) if isinstance(place, Path) else uri


def input_model(invocation: Invocation, name: str) -> Path:
    """Return the folder of the model that the input ``name`` left behind. Raises ``BadInputError``."""
    expected = invocation.load(name).folder_digest(CHECKPOINT)
    folder = Path(_fetch(f"store:{invocation.need(name).prefix}/{CHECKPOINT}", invocation))
    if checkpoint_digest(folder) != expected:
        raise BadInputError(f"{folder} does not match its manifest: was it changed by hand?")
    return folder


def _fetch(uri: str, invocation: Invocation) -> Path | str:
    try:
        return fetch(uri, invocation.store, invocation.cache)
    except (ValueError, FileNotFoundError) as error:
        raise BadInputError(str(error)) from None
