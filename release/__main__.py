"""``python -m release``: prepare a version, then publish it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from release.checks import INSTALL, git, observe, refusals
from release.commands import Builder, Settings
from release.errors import ReleaseError
from release.images import check_registry, release_images, with_bases
from release.plan import Kind, Record
from release.publish import PLACEHOLDER, Publication, export
from release.publish import prepare as prepare_sources
from release.version import check_version

app = typer.Typer(
    name="python -m release",
    add_completion=False,
    help="Make a release: images, SBOMs, charts, distributions, tag. See docs/releasing.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Version = Annotated[str, typer.Argument(help="MAJOR.MINOR.PATCH, or with -a.N, -b.N or -rc.N after it.")]


@app.command()
def prepare(version: Version) -> None:
    """Write the version into pyproject.toml, the charts and the changelog. Commit the result and merge it into main.

    Example: `python -m release prepare 0.2.0`
    """
    check_version(version)
    for file in prepare_sources(_root(), version):
        typer.echo(file)


@app.command()
def publish(
    version: Version,
    registry: Annotated[str, typer.Option(help="Where images and charts go: HOST[:PORT]/PROJECT.")],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the commands; package charts and wheel from HEAD; change nothing else."),
    ] = False,
    builder: Annotated[Builder, typer.Option(help="The program that builds the images.")] = Builder.DOCKER,
    platform: Annotated[
        list[str] | None, typer.Option(help="linux/amd64, ...; repeatable. The builder's own if not given.")
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=IMAGE: another base for one image, such as policy=REPOSITORY:TAG with CUDA; repeatable."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for what is made; dist/VERSION, in a dry run a temporary one.")
    ] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="The registry has no TLS.")] = False,
) -> None:
    """Build and push the images of HEAD with their SBOMs, then the charts with the images' digests; tag the commit.

    HEAD must be a commit of main that `prepare` has given the version. A release that was interrupted continues.

    Example: `python -m release publish 0.2.0 --registry ghcr.io/lab --platform linux/amd64`

    Example: `python -m release publish 0.2.0 --registry ghcr.io/lab --dry-run`
    """
    check_version(version)
    registry = registry.rstrip("/")
    check_registry(registry)
    root = _root()
    with_bases(release_images(root), base or ())
    facts = observe(root, version, [*INSTALL, *([] if dry_run else [str(builder)])])
    reasons = refusals(version, facts)
    if reasons and not dry_run:
        raise ReleaseError("\n".join(reasons))
    for reason in reasons:
        _report(f"a release would be refused: {reason}")
    settings = Settings(
        version,
        registry,
        builder,
        tuple(platform or ()),
        plain_http,
        facts.commit,
        facts.date,
        facts.source,
    )
    with tempfile.TemporaryDirectory(prefix="rstar-release-") as scratch:
        sources = Path(scratch, "sources")
        export(root, facts.commit, sources)
        if dry_run:
            prepare_sources(sources, version)
        images = with_bases(release_images(sources), base or ())
        target = output or (Path(tempfile.mkdtemp(prefix=f"rstar-{version}-")) if dry_run else root / "dist" / version)
        record = Publication(root, sources, target.absolute(), images, settings, dry_run, _report).run()
    _print_table(record)
    typer.echo(f"Files: {target}")
    if not dry_run:
        typer.echo(f"Next: git push origin v{version}; uv publish {target}/python/*")


def _root() -> Path:
    return Path(git(Path.cwd(), "rev-parse", "--show-toplevel"))


def _report(line: str) -> None:
    print(f"release: {line}", file=sys.stderr, flush=True)


def _print_table(record: Record) -> None:
    table = Table("", "name", "digest", "size")
    for kind in Kind:
        for artefact in record.made.get(kind, {}).values():
            digest = "" if artefact.digest == PLACEHOLDER else artefact.digest
            table.add_row(kind, artefact.name, digest, _size(artefact.size))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _size(size: int) -> str:
    return "" if not size else f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def run() -> None:
    """Run the command line and exit."""
    try:
        app()
    except ReleaseError as error:
        for line in str(error).splitlines():
            print(f"release: {line}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
