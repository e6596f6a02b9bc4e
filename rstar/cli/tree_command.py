"""``rstar tree show`` and ``rstar tree export``: the search trees of a store, in the terminal and as files."""

from __future__ import annotations

import json as encoder
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from rstar.cli.completion import round_names
from rstar.cli.errors import FAILED, CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from rstar.locations.stores import opened_store

if TYPE_CHECKING:
    from rstar.report.tree_source import StoredTree, TreeSource

PAGE_TREES: Final = 5_000
"""More trees make a page that browsers open slowly."""


def method_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the methods with trees that start with ``incomplete``; an error means no suggestion."""
    with suppress(Exception, SystemExit):
        source = _source(ctx.params.get("store") or DEFAULT_STORE)
        return [name for name in source.methods(ctx.params.get("round_name")) if name.startswith(incomplete)]
    return []


RoundOption = Annotated[
    str | None,
    typer.Option(
        "--round",
        help="A round; default: the last one that has the tree.",
        autocompletion=round_names,
        show_default=False,
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="rollout (the training trees) or an evaluation method; default: any.",
        autocompletion=method_names,
        show_default=False,
    ),
]

tree = typer.Typer(no_args_is_help=True, help="Show and export the search trees of a store.")


@tree.command()
def show(
    problem: Annotated[
        str, typer.Argument(metavar="PROBLEM", help="The problem's id, or its start.", show_default=False)
    ],
    store: StoreOption = DEFAULT_STORE,
    round_name: RoundOption = None,
    method: MethodOption = None,
    node: Annotated[
        int | None, typer.Option(min=0, help="Show one node in full, by its number.", show_default=False)
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="The deepest step to show.", show_default=False)] = None,
    best: Annotated[
        int | None,
        typer.Option(min=1, help="Of each node, only so many next steps, highest Q first.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the search tree of one problem, with the path of the chosen answer in bold.

    For example:

    - `rstar tree show 3474b10dcfe77377`
    - `rstar tree show 3474 --round r2 --method mcts+ppm --depth 3 --best 4`
    - `rstar tree show 3474 --node 12`
    """
    from rstar.cli.console import wide_console
    from rstar.cli.tree_view import node_json, node_view, tree_json, tree_view

    source = _source(store)
    _check_names(source, round_name, method)
    found = _find(source, problem, round_name, method)
    _print_faults(source)
    if node is not None and node >= len(found.record.nodes):
        raise CommandError(f"--node {node}: the tree has the nodes 0 to {len(found.record.nodes) - 1}")
    if json:
        typer.echo(encoder.dumps(tree_json(found) if node is None else node_json(found, node)))
        return
    wide_console().print(tree_view(found, depth, best) if node is None else node_view(found, node))


@tree.command()
def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.", show_default=False)],
    problems: Annotated[
        list[str] | None, typer.Argument(metavar="[PROBLEM]...", help="Ids; default: all.", show_default=False)
    ] = None,
    form: Annotated[
        Literal["json", "parquet", "dot", "html"],
        typer.Option(
            "--format", help="json, parquet (a trees table), dot (Graphviz) or html (a page with the viewer)."
        ),
    ] = "html",
    store: StoreOption = DEFAULT_STORE,
    round_name: RoundOption = None,
    method: MethodOption = None,
    solved: Annotated[
        bool | None, typer.Option("--solved/--unsolved", help="Only trees with this mark.", show_default=False)
    ] = None,
) -> None:
    """Write trees to one file, in place of an existing one.

    For example:

    - `rstar tree export -o trees.html`
    - `rstar tree export 3474b10dcfe77377 --round r2 --format dot -o tree.dot`
    - `rstar tree export --method rollout --unsolved --format parquet -o unsolved.parquet`
    """
    source = _source(store)
    _check_names(source, round_name, method)
    wanted = set(problems or ())
    seen: set[str] = set()

    def chosen() -> Iterator[StoredTree]:
        for stored in source.trees(round_name and [round_name], method and [method]):
            seen.add(stored.problem.id)
            if (not wanted or stored.problem.id in wanted) and (solved is None or bool(stored.right) is solved):
                yield stored

    trees = list(chosen())
    _print_faults(source)
    for missing in sorted(wanted - seen):
        raise CommandError(_no_problem(missing, sorted(seen), round_name, method))
    if not trees:
        raise CommandError(f"the store {store} has no such tree: nothing was written")
    if form == "html" and len(trees) > PAGE_TREES:
        raise CommandError(
            f"{len(trees):,} trees are too many for one page (at most {PAGE_TREES:,}): choose --round, --method or problems"
        )
    try:
        _write(out, form, trees)
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}", FAILED) from None
    typer.echo(f"{out}: {len(trees)} tree{'' if len(trees) == 1 else 's'}")


def _write(out: Path, form: str, trees: Sequence[StoredTree]) -> None:
    from rstar.cli.tree_view import tree_json, verdict_words
    from rstar.report.dot import dot
    from rstar.report.tree_page import tree_page
    from rstar.report.trees import tree_entry
    from rstar.store.atomic import atomic_write
    from rstar.store.tables import write_trees

    if form == "parquet":
        write_trees(out, ((stored.problem, stored.record) for stored in trees))
        return
    if form == "json":
        text = encoder.dumps([tree_json(stored) for stored in trees])
    elif form == "dot":
        text = dot(
            (f"{t.problem.id}  {t.round}  {t.method}  {verdict_words(t.right)}\n{t.problem.question}", t.record)
            for t in trees
        )
    else:
        entries = [tree_entry(t.round, t.method, t.problem, t.record, right=t.right) for t in trees]
        text = tree_page(entries, "Search trees")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as file:
        file.write(text.encode())


def _source(uri: str) -> TreeSource:
    from rstar.report.tree_source import TreeSource
    from rstar.store.store import StoreError

    try:
        return TreeSource(opened_store(uri))
    except StoreError as error:
        raise CommandError(str(error), FAILED) from None


def _check_names(source: TreeSource, round_name: str | None, method: str | None) -> None:
    """Raise ``CommandError`` for a round or a method that has no trees."""
    if not source.methods():
        raise CommandError("the store has no search trees yet: a round's rollout stage writes the first ones")
    if round_name is not None and round_name not in source.rounds:
        raise CommandError(f"--round {round_name}: no such round in the store; {_nearest(round_name, source.rounds)}")
    methods = source.methods(round_name)
    if method is not None and method not in methods:
        where = f"round {round_name}" if round_name else "the store"
        raise CommandError(f"--method {method}: {where} has no trees of it; {_nearest(method, methods)}")


def _find(source: TreeSource, problem: str, round_name: str | None, method: str | None) -> StoredTree:
    """Return the tree of a problem: of the exact id, else of the only id that starts with it."""
    starting: dict[str, StoredTree] = {}
    known: dict[str, None] = {}
    for stored in source.trees(round_name and [round_name], method and [method], latest_first=True):
        name = stored.problem.id
        if name == problem:
            return stored
        if name.startswith(problem):
            starting.setdefault(name, stored)
        known[name] = None
    if len(starting) == 1:
        return next(iter(starting.values()))
    _print_faults(source)
    if starting:
        raise CommandError(f"{problem}: several problems start so: {', '.join(sorted(starting)[:5])}")
    raise CommandError(_no_problem(problem, list(known), round_name, method))


def _no_problem(problem: str, known: Sequence[str], round_name: str | None, method: str | None) -> str:
    where = " ".join(
        part
        for part in (f"round {round_name}" if round_name else "the store", f"under {method}" if method else "")
        if part
    )
    return f"{problem}: no tree of such a problem in {where}; {_nearest(problem, known)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.4)
    if close:
        return f"the nearest: {', '.join(close)}"
    return f"there are: {', '.join(list(known)[:5])}{', ...' if len(known) > 5 else ''}" if known else "there are none"


def _print_faults(source: TreeSource) -> None:
    for fault in source.faults:
        typer.echo(f"left out: {fault.key}: {fault.reason}", err=True)
