"""``rstar logs NAME``: what the programs of a round said, the last attempt's first of all.

The module refuses to interpret: lines come out as they went in.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, chosen_place
from rstar.cli.completion import NameArgument
from rstar.cli.errors import FAILED, INTERRUPTED, CommandError
from rstar.cli.location import AttemptName, LogLine, Place, Reading, ServiceName, found_round
from rstar.cli.options import DEFAULT_STORE, StoreOption

if TYPE_CHECKING:
    from rstar.rounds.status import RoundStatus

LOOK_SECONDS: Final = 2.0

StageName = Literal["rollout", "select", "train-policy", "train-ppm", "evaluate"]


def logs(
    ctx: typer.Context,
    name: NameArgument,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    stage: Annotated[
        StageName | None, typer.Option(help="A stage; unset: the one that was begun last.", show_default=False)
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="An attempt of the stage; unset: the last.", show_default=False)
    ] = None,
    service: Annotated[
        ServiceName | None,
        typer.Option(help="A service that the round uses, in place of a stage.", show_default=False),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more, until the attempt or the service has ended.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(min=0, help="Of what is there, only the last lines of each log.", show_default=False)
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All attempts (or starts of the service), oldest first.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line of a log.")] = False,
) -> None:
    """Print the logs of a round: of the attempt begun last, unless another is named.

    Examples: `rstar logs r2`, `rstar logs r2 --stage rollout --attempt 1 --tail 50`, `rstar logs r2 -n lab -f`,
    `rstar logs r2 --service policy -f`
    """
    if service is not None and (stage is not None or attempt is not None):
        raise CommandError("give --service or --stage and --attempt, not both")
    if every and attempt is not None:
        raise CommandError("give --attempt or --all, not both")
    place = chosen_place(ctx, store, namespace, context, kubeconfig)
    reading = Reading(follow=follow, last=tail, tell=lambda text: typer.echo(text, err=True))
    emit = _as_json if json else _Text()
    try:
        status = found_round(place, name, place.rounds())
        if service is not None:
            for line in place.service_log(name, service, reading, every=every):
                emit(line)
            return
        wanted = _wanted(place, name, status, stage, attempt, every=every, wait=follow)
        for number, item in enumerate(wanted, 1):
            last = number == len(wanted)
            try:
                for line in place.attempt_log(name, item, replace(reading, follow=follow and last)):
                    emit(line)
            except LookupError as error:
                gone = f"the log of {item.stage} {item.number} is gone: {error}"
                if last:
                    raise CommandError(gone, FAILED) from None
                reading.tell(gone)
    except LookupError as error:
        raise CommandError(str(error), FAILED) from None
    except KeyboardInterrupt:
        raise CommandError("", INTERRUPTED) from None


def _wanted(
    place: Place,
    name: str,
    status: RoundStatus,
    stage: str | None,
    number: int | None,
    *,
    every: bool,
    wait: bool,
) -> list[AttemptName]:
    """Return the attempts that the options name, oldest first; ``wait`` for one as long as one may come."""
    told = False
    while not (found := chosen_attempts(status, stage, number, every=every)):
        over = status.phase in {"Succeeded", "Failed"}
        what = f"stage {stage}" if stage else "any stage"
        missing = f"round {name} has not begun {what}{f', attempt {number}' if number else ''}: {status.message}"
        if over or not wait:
            raise CommandError(missing, FAILED)
        if not told:
            typer.echo(f"{missing}; waiting for it", err=True)
            told = True
        time.sleep(LOOK_SECONDS)
        status = found_round(place, name, place.rounds())
    return found


def chosen_attempts(
    status: RoundStatus, stage: str | None, number: int | None, *, every: bool = False
) -> list[AttemptName]:
    """Return the attempts of ``stage`` (of the one begun last) and ``number`` (the last); ``every``: all, oldest first."""
    begun = sorted(status.attempts, key=lambda item: item.started_at)
    if every:
        return [AttemptName(item.stage, item.number) for item in begun if stage in {None, item.stage}]
    stage = stage or (begun[-1].stage if begun else None)
    numbers = [item.number for item in begun if item.stage == stage and number in {None, item.number}]
    return [AttemptName(stage, max(numbers))] if stage is not None and numbers else []


class _Text:
    """Prints lines as they are; as soon as there is a second log, led by the name of theirs."""

    def __init__(self) -> None:
        self._sources: set[str] = set()

    def __call__(self, line: LogLine) -> None:
        self._sources.add(line.source)
        lead = f"[{line.source}] " if len(self._sources) > 1 else ""
        print(f"{lead}{line.text}", flush=True)


def _as_json(line: LogLine) -> None:
    import json

    print(json.dumps({"source": line.source, "text": line.text}), flush=True)
