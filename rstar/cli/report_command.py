"""``rstar report``: all rounds of a store or a namespace as one HTML page, or as JSON.

It only reads, also while another process writes.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, choose_location
from rstar.cli.errors import FAILED, CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from rstar.distribution import extra

if TYPE_CHECKING:
    from rstar.report.data import Report

_LIBRARIES: Final = ("altair", "vl_convert", "jinja2")
"""What the page needs beyond the command line's own libraries."""


def report(
    ctx: typer.Context,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    trees: Annotated[
        int,
        typer.Option(min=0, help="Of how many training and of how many held-out problems the page has all trees."),
    ] = 40,
    tree_megabytes: Annotated[
        float, typer.Option(min=0, help="Most megabytes of trees in the page; the first problems are kept.")
    ] = 6.0,
    json: JsonOption = False,
) -> None:
    """Write one HTML page about all rounds: accuracy, coverage, PPM, cost, lineage, trajectories and trees.

    The page loads nothing from outside, so it can be mailed or published as a file. The rounds may be at work:
    the page says what is missing. Damaged files are named and left out.

    For example:

    - `rstar report --store out/game24/store`
    - `rstar report --store s3://lab/rounds --output lab.html --trees 100`
    - `rstar report -n lab`
    - `rstar report --store out/game24/store --json`
    """
    from rstar.cli.progress_bars import progress_bars
    from rstar.report.collect import collect
    from rstar.store.store import StoreError

    if not json:
        _check_page(output)
    elif (source := ctx.get_parameter_source("output")) is not None and source.name == "COMMANDLINE":
        raise CommandError(
            f"--output names the page, and --json writes none: leave one out, or use '--json > {output}'"
        )
    location = choose_location(ctx, store, namespace, context, kubeconfig)
    shelf = None
    if not json:
        from rstar.report.shelf import Shelf

        shelf = Shelf()
    try:
        with progress_bars() as shown:
            statuses = location.rounds()
            found = collect(
                location.store(),
                statuses,
                trees,
                shelf.add if shelf is not None else lambda *_: None,
                partial(shown, "reading"),
            )
    except StoreError as error:
        raise CommandError(str(error), FAILED) from None
    if not found.rounds:
        raise CommandError(
            f"there is no round in {location.description}; start with 'rstar submit FILE {location.options}'"
        )
    for fault in found.faults:
        print(f"rstar: left out {fault.key}: {fault.reason}", file=sys.stderr)
    if shelf is None:
        import json as encoder

        typer.echo(encoder.dumps(found.to_plain(), allow_nan=False))
        return
    entries, left_out = shelf.within(int(tree_megabytes * 1_000_000))
    _write(output, found, entries, left_out)


def _check_page(output: Path) -> None:
    """Raise ``CommandError`` when the page cannot be made or written."""
    if any(find_spec(name) is None for name in _LIBRARIES):
        raise CommandError(
            f"the page needs libraries that are not installed: {extra('report')}; --json works without them"
        )
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise CommandError(f"--output {output}: give the path of a file in a folder that exists")


def _write(output: Path, found: Report, entries: list[dict[str, object]], left_out: int) -> None:
    from rstar.report.page import render
    from rstar.store.atomic import atomic_write

    page = render(found, entries, datetime.now(UTC), place=_place(found.store), left_out=left_out).encode()
    try:
        with atomic_write(output) as file:
            file.write(page)
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error.strerror or error}", FAILED) from None
    rounds = f"{len(found.rounds)} round{'' if len(found.rounds) == 1 else 's'}"
    typer.echo(f"{output}: {rounds}, {len(entries)} trees, {len(page) / 1e6:.1f} MB")


def _place(uri: str) -> str:
    """Return the store's URI; a folder below the working directory by its relative path, because pages are passed on."""
    from rstar.store.open import folder_of

    if not uri.startswith("file://"):
        return uri
    folder = folder_of(uri)
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else uri
