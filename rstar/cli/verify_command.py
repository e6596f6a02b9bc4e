"""``rstar verify``: grades rows of reference and answer with any verifier, to audit it.

The rows and the figures by kind are in ``rstar.verify.audit``.
"""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar.cli.errors import CommandError
from rstar.cli.options import verifier_named

if TYPE_CHECKING:
    from rstar.interfaces import Verdict
    from rstar.verify.audit import AuditRow
    from rstar.verify.guard import Guarded

SHOWN_FAULTS = 5
AT_ONCE = 32
"""Rows that a verifier judges at the same time."""


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="JSONL with the keys reference and answer; kind, correct (the label) and data are optional.",
            show_default=False,
        ),
    ],
    verifier: Annotated[
        str, typer.Option(help="Verifier by name: math-verify, exact, countdown or a plug-in's.")
    ] = "math-verify",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per row instead: reference, answer, correct, reason.")
    ] = False,
) -> None:
    """Grade answers against references: verdicts with reasons, and a table by kind.

    Where rows are labelled with `correct`, the table has the accuracy, the false positives (accepted though labelled
    wrong) and the false negatives.

    For example:

    - `rstar verify pairs.jsonl`
    - `rstar verify pairs.jsonl --verifier exact --json`
    """
    import json as encoder

    rows = _rows(file)
    verdicts = asyncio.run(_judged(rows, verifier_named(verifier)))
    if json:
        for row, verdict in zip(rows, verdicts, strict=True):
            line = {"reference": row.reference, "answer": row.answer}
            typer.echo(encoder.dumps({**line, "correct": verdict.correct, "reason": verdict.reason}))
        return
    from rstar.cli.console import wide_console
    from rstar.cli.verdict_table import figures_table, verdict_line
    from rstar.verify.audit import figures

    for row, verdict in zip(rows, verdicts, strict=True):
        typer.echo(verdict_line(row, verdict))
    wide_console().print(figures_table(figures(rows, verdicts), f"{len(rows)} rows of {file} by {verifier}"))


def _rows(file: Path) -> list[AuditRow]:
    from rstar.verify.audit import read_rows

    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the file is not UTF-8"
        raise CommandError(f"{file}: {reason}; give a JSONL file with reference and answer") from None
    rows, faults = read_rows(lines)
    if faults:
        more = [f"{file}: {len(faults) - SHOWN_FAULTS} more rows are bad"] if len(faults) > SHOWN_FAULTS else []
        raise CommandError("\n".join([*(f"{file}: {fault}" for fault in faults[:SHOWN_FAULTS]), *more]))
    if not rows:
        raise CommandError(f"{file} has no rows; write one JSON object with reference and answer per line")
    return rows


async def _judged(rows: list[AuditRow], judge: Guarded) -> list[Verdict]:
    """Return the verdicts in the order of the rows; the progress is shown."""
    from rstar.cli.progress_bars import progress_bars

    slots = asyncio.Semaphore(AT_ONCE)
    finished = count(1)
    with progress_bars() as shown:
        shown("verify", 0, len(rows))

        async def one(row: AuditRow) -> Verdict:
            async with slots:
                verdict = await judge.verify(row.problem(), row.answer)
            shown("verify", next(finished), len(rows))
            return verdict

        try:
            return await asyncio.gather(*map(one, rows))
        finally:
            await judge.close()
