"""The command line of every stage program, and the invocation that it describes."""

from __future__ import annotations

import argparse
from pathlib import Path

import structlog

from rstar.rounds.load import SpecError, parse_rounds
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.programs import STAGE_MODULES, read_input_argument
from rstar.rounds.spec import EvolutionRound
from rstar.store.open import open_store
from rstar_jobs.errors import BadInputError
from rstar_jobs.invocation import Invocation
from rstar_jobs.progress import Progress
from rstar_jobs.run_times import RunTimes


def argument_parser(stage: Stage) -> argparse.ArgumentParser:
    """Return the parser of a stage's command line."""
    parser = argparse.ArgumentParser(prog=STAGE_MODULES[stage], description=f"Stage {stage}.")
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


def read_invocation(options: argparse.Namespace, stage: Stage, progress: Progress, times: RunTimes) -> Invocation:
    """Return the invocation that the parsed command line describes. Raises ``BadInputError``."""
    item = _read_round(options.round)
    try:
        store = open_store(options.store)
    except ValueError as error:
        raise BadInputError(str(error)) from None
    inputs = dict(_read_input(text) for text in options.input)
    search = tuple(address for address in options.search.split(",") if address)
    structlog.contextvars.bind_contextvars(round=item.name, stage=stage.value)
    structlog.get_logger().info("stage starts", store=store.uri)
    return Invocation(stage, item, store, inputs, search, options.cache, progress, times)


def _read_round(path: Path) -> EvolutionRound:
    try:
        rounds = parse_rounds(path)
    except SpecError as error:
        raise BadInputError("; ".join(error.faults)) from None
    if len(rounds) != 1:
        raise BadInputError(f"{path} holds {len(rounds)} EvolutionRounds: give a file with one")
    return rounds[0]


def _read_input(text: str) -> tuple[str, ManifestRef]:
    try:
        return read_input_argument(text)
    except ValueError as error:
        raise BadInputError(str(error)) from None
