"""``rstar doctor``: checks this machine and a store, or a namespace of a cluster, and says how to mend what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rstar.cli.choose_location import ContextOption, KubeconfigOption, NamespaceOption, names_cluster
from rstar.cli.errors import CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption

if TYPE_CHECKING:
    from rstar.doctor.finding import Check, Finding
    from rstar.rounds.spec import EvolutionRound

_STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def doctor(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="YAML file with rounds: check also what they need.", show_default=False),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
    json: JsonOption = False,
) -> None:
    """Check whether rounds can run here, and say how to mend what is wrong.

    Without a cluster option: this machine and the store. With one: the namespace, as its user. Nothing is changed but a
    probe object of the store, which is deleted again. A check that hangs or breaks ends no other one.

    Exit code 1 when a check failed; warnings and skipped checks do not count.

    For example:

    - `rstar doctor --store runs/tiny`
    - `rstar doctor rounds.yaml --store s3://lab/tiny --json`
    - `rstar doctor rounds.yaml -n lab`
    """
    from rich.console import Console

    from rstar.doctor.finding import exit_code
    from rstar.doctor.running import run_checks

    rounds = _rounds(file)
    on_cluster = names_cluster(ctx, namespace, context, kubeconfig)
    with Console(stderr=True).status("checking") if sys.stderr.isatty() else nullcontext():
        if on_cluster:
            findings = _cluster_findings(namespace, context, kubeconfig, rounds)
        else:
            findings = run_checks(_machine_checks(file, rounds, store))
    if json:
        _print_json(findings)
    else:
        _print_table(findings)
    raise typer.Exit(exit_code(findings))


def _rounds(file: Path | None) -> list[EvolutionRound]:
    from rstar.locations.rounds_files import parsed_rounds

    return [] if file is None else parsed_rounds([file])


def _machine_checks(file: Path | None, rounds: Sequence[EvolutionRound], uri: str) -> list[Check]:
    from rstar.doctor.machine_facts import machine_checks
    from rstar.doctor.round_file import file_checks
    from rstar.doctor.store import store_check
    from rstar.store.open import open_store
    from rstar.store.store import StoreError

    checks = [*machine_checks(), store_check(uri)]
    if file is None:
        return checks
    opened = None
    if "://" in uri or Path(uri).is_dir():
        try:
            opened = open_store(uri)
        except (ValueError, StoreError):
            opened = None  # the check of the store says why
    return [*checks, *file_checks(file, rounds, opened)]


def _cluster_findings(
    namespace: str | None, context: str | None, kubeconfig: Path | None, rounds: Sequence[EvolutionRound]
) -> list[Finding]:
    """Return the findings of a namespace. Raises ``CommandError`` when no cluster is configured."""
    from rstar.cli.choose_location import cluster_library

    cluster_library()
    from rstar.cluster.api import Cluster, ClusterError
    from rstar.cluster.default_namespace import default_namespace
    from rstar.doctor.cluster_facts import cluster_findings

    try:
        cluster = Cluster.connect(kubeconfig, context)
        chosen = namespace or default_namespace(kubeconfig, context)
    except ClusterError as error:
        raise CommandError(str(error)) from None
    return cluster_findings(cluster, chosen, rounds)


def _print_json(findings: Sequence[Finding]) -> None:
    import json as encoder
    from collections import Counter
    from dataclasses import asdict

    from rstar.doctor.finding import exit_code

    counts = Counter(finding.result for finding in findings)
    summary = {result: counts[result] for result in ("ok", "warning", "failed", "skipped")}
    typer.echo(
        encoder.dumps(
            {"healthy": not exit_code(findings), "summary": summary, "checks": [asdict(one) for one in findings]}
        )
    )


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    from rstar.cli.console import wide_console

    table = Table("check", "result", "found", "to mend it", box=None, pad_edge=False)
    for finding in findings:
        style = _STYLES[finding.result]
        # As Text: a message may have brackets, which are markup to Rich.
        table.add_row(Text(finding.name), Text(finding.result, style), Text(finding.found), Text(finding.mend))
    wide_console().print(table)
    counts = {result: sum(one.result == result for one in findings) for result in _STYLES}
    typer.echo(", ".join(f"{count} {result}" for result, count in counts.items() if count), err=not sys.stdout.isatty())
