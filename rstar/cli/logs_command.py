"""``rstar logs NAME``: prints the logs of a round's stages and services unchanged; by default of the latest attempt."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, choose_location
from rstar.cli.completion import NameArgument
from rstar.cli.errors import FAILED, INTERRUPTED, CommandError
from rstar.cli.options import DEFAULT_STORE, StoreOption
from rstar.locations.attempts import select_attempts
from rstar.locations.errors import RoundsError
from rstar.locations.location import AttemptName, Location, LogLine, LogOptions, ServiceName, find_round

if TYPE_CHECKING:
    from rstar.rounds.status import RoundStatus

POLL_SECONDS: Final = 2.0

StageName = Literal["rollout", "select", "train-policy", "train-ppm", "evaluate"]


def logs(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    stage: Annotated[
        StageName | None, typer.Option(help="A stage; default: the one that started last.", show_default=False)
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Number of the stage's attempt; default: the latest.", show_default=False)
    ] = None,
    service: Annotated[
        ServiceName | None,
        typer.Option(help="A service of the round, instead of a stage.", show_default=False),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new lines until the attempt or the service has ended.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of the existing lines, print only this many from the end of each log.", show_default=False
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All attempts (or all starts of the service), oldest first.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per log line.")] = False,
) -> None:
    """Print the log of a round's latest attempt, or of another attempt or a service.

    For example:

    - `rstar logs r2`
    - `rstar logs r2 --stage rollout --attempt 1 --tail 50`
    - `rstar logs r2 -n lab -f`
    - `rstar logs r2 --service policy -f`
    """
    if service is not None and (stage is not None or attempt is not None):
        raise CommandError("give --service or --stage and --attempt, not both")
    if every and attempt is not None:
        raise CommandError("give --attempt or --all, not both")
    location = choose_location(ctx, store, namespace, context, kubeconfig)
    options = LogOptions(follow=follow, last=tail, notify=lambda text: typer.echo(text, err=True))
    emit = _print_json if json else _TextPrinter()
    try:
        status = find_round(location, name, location.rounds())
        if service is not None:
            for line in location.service_log(name, service, options, every=every):
                emit(line)
            return
        attempts = _named_attempts(location, name, status, stage, attempt, every=every, wait=follow)
        for item in attempts:
            last = item == attempts[-1]
            try:
                for line in location.attempt_log(name, item, replace(options, follow=follow and last)):
                    emit(line)
            except LookupError as error:
                missing = f"the log of {item.stage} {item.number} no longer exists: {error}"
                if last:
                    raise CommandError(missing, FAILED) from None
                options.notify(missing)
    except RoundsError:
        raise
    except LookupError as error:
        raise CommandError(str(error), FAILED) from None
    except KeyboardInterrupt:
        raise CommandError("", INTERRUPTED) from None


def _named_attempts(
    location: Location,
    name: str,
    status: RoundStatus,
    stage: str | None,
    number: int | None,
    *,
    every: bool,
    wait: bool,
) -> list[AttemptName]:
    """Return the attempts that the options name, oldest first; ``wait``: until one exists or the round has ended."""
    notified = False
    while not (found := select_attempts(status, stage, number, every=every)):
        ended = status.phase in {"Succeeded", "Failed"}
        subject = f"stage {stage}" if stage else "any stage"
        missing = f"round {name} has not started {subject}{f', attempt {number}' if number else ''}: {status.message}"
        if ended or not wait:
            raise CommandError(missing, FAILED)
        if not notified:
            typer.echo(f"{missing}; waiting for it", err=True)
            notified = True
        time.sleep(POLL_SECONDS)
        status = find_round(location, name, location.rounds())
    return found


class _TextPrinter:
    """Prints lines unchanged; from the second log on, each with the name of its log in front."""

    def __init__(self) -> None:
        self._sources: set[str] = set()

    def __call__(self, line: LogLine) -> None:
        self._sources.add(line.source)
        prefix = f"[{line.source}] " if len(self._sources) > 1 else ""
        print(f"{prefix}{line.text}", flush=True)


def _print_json(line: LogLine) -> None:
    import json

    print(json.dumps({"source": line.source, "text": line.text}), flush=True)
