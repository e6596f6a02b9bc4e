"""Options that several commands share, and their parsing. A wrong value is a ``CommandError`` with one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstar.cli.errors import CommandError
from rstar.locations.stores import opened_store

if TYPE_CHECKING:
    from rstar.config import SearchConfig
    from rstar.readers import Reading
    from rstar.verify.guard import Guarded

DEFAULT_STORE = "rstar-store"

StoreOption = Annotated[
    str, typer.Option("--store", envvar="RSTAR_STORE", help="The store: a folder or s3://BUCKET/PREFIX.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
PolicyModelOption = Annotated[
    str | None,
    typer.Option(help="Policy checkpoint to serve on this machine: a folder, store:PREFIX or hf:ORG/NAME@REVISION."),
]
PpmModelOption = Annotated[
    str | None,
    typer.Option(help="PPM checkpoint to serve on this machine: a folder, store:PREFIX or hf:ORG/NAME@REVISION."),
]
PolicyOption = Annotated[
    list[str] | None, typer.Option(help="Address of a running policy server, HOST:PORT; repeatable.")
]
PpmOption = Annotated[list[str] | None, typer.Option(help="Address of a running PPM server, HOST:PORT; repeatable.")]
ExecutorOption = Annotated[
    list[str] | None,
    typer.Option(help="Address of a running executor, HOST:PORT; repeatable; default: one is started on this machine."),
]
SearchOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Address of a running search coordinator, HOST:PORT; repeatable. It searches with its own policy, PPM and executors."
    ),
]
CallSecondsOption = Annotated[
    float, typer.Option(min=0.001, help="How long a model may take for one call, from when its server begins.")
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="Form of the rows: jsonl (any with the common field names, in JSON, CSV or Parquet), gsm8k, math or countdown.",
    ),
]
SplitOption = Annotated[str, typer.Option(help="Split of a hub data set (hf:NAME); unused for files.")]
PromptOption = Annotated[
    str,
    typer.Option(
        help="Prompt for --policy-model: trained, bootstrap (few-shot), or chat (few-shot in a chat template)."
    ),
]


def search_config(method: str, settings: Iterable[tuple[str, Any]], *, guided: bool) -> SearchConfig:
    """Return the configuration of a method from (key, text) pairs. ``guided``: the PPM guides unless a setting differs."""
    from rstar.sdk.search_settings import search_settings

    try:
        return search_settings(method, settings, guided=guided)
    except ValueError as error:
        raise CommandError(str(error)) from None


def assignments(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Split texts of the form ``key=value``."""
    pairs = [text.partition("=") for text in texts]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise CommandError(f"{key}{equals}{value!s}: write KEY=VALUE, for instance exploration=0.3")
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def problems_of(
    uris: Sequence[str], form: str, split: str, store: str, limit: int | None = None, on_bad_row: str = "fail"
) -> Reading:
    """Read the problems of data sets: local paths, ``store:PATH`` or ``hf:NAME``. ``limit``: the most of each of them."""
    from tempfile import TemporaryDirectory

    from pydantic import ValidationError

    from rstar.rounds.problems import read_problems_of
    from rstar.rounds.problems_spec import ProblemsSpec
    from rstar.rounds.validation_errors import validation_messages

    given = {"sets": [{"uri": uri, "limit": limit} for uri in uris], "format": form, "split": split}
    try:
        spec = ProblemsSpec.model_validate({**given, "onBadRow": on_bad_row})
    except ValidationError as error:
        raise CommandError("\n".join(f"problems: {s}" for s in validation_messages(error, ProblemsSpec))) from None
    try:
        with TemporaryDirectory() as cache:
            opened = opened_store(store) if any(uri.startswith("store:") for uri in uris) else None
            return read_problems_of(spec, opened, Path(cache))
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None


def verifier_named(name: str) -> Guarded:
    """Return a verifier by name; the caller closes it."""
    from rstar.verify import verifier

    try:
        return verifier(name)
    except ValueError as error:
        raise CommandError(str(error)) from None
