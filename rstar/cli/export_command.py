"""``rstar export hub``: what rounds made, as folders for the Hugging Face hub, and their upload."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstar.cli.errors import FAILED, CommandError
from rstar.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from rstar.locations.stores import opened_store

if TYPE_CHECKING:
    from rstar.hub_export.plan import ExportPlan, Part
    from rstar.hub_export.writing import Written


class PartName(StrEnum):
    """A part of an export, as an option's value."""

    DATA = "data"
    POLICY = "policy"
    PPM = "ppm"


export = typer.Typer(no_args_is_help=True, help="Write what rounds made for other programs.")


@export.callback()
def _exports() -> None:
    """Write what rounds made for other programs.

    Example: `rstar export hub --store runs/tiny --out for-the-hub`
    """


@export.command("hub")
def export_hub(
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder for the exported folders.")] = Path("hub-export"),
    round_names: Annotated[
        list[str] | None, typer.Option("--round", help="Name of a round; repeatable; default: all.", show_default=False)
    ] = None,
    only: Annotated[
        list[PartName] | None,
        typer.Option(help="Export only this: data, policy or ppm; repeatable; default: all.", show_default=False),
    ] = None,
    license_name: Annotated[
        str, typer.Option("--license", help="Licence of the cards, by the hub's identifier, such as apache-2.0.")
    ] = "unknown",
    base_model: Annotated[
        str,
        typer.Option(help="The base model's name on the hub, ORG/NAME; default: the round's, if it is from there."),
    ] = "",
    push: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            help="Upload: the data to ORG/NAME, a model to ORG/NAME-ROUND-policy or -ppm.",
            show_default=False,
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make new repositories public; default: private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be written and uploaded.")] = False,
    json: JsonOption = False,
) -> None:
    """Write data sets and models of finished rounds as folders for the Hugging Face hub, with cards.

    `datasets.load_dataset` and transformers read the folders as they are. Every file is compared with the digest in its
    manifest; a damaged one is named and left out (exit code 1). After an interruption the same command continues.

    For example:

    - `rstar export hub --store runs/tiny --license apache-2.0 --dry-run`
    - `rstar export hub --store runs/tiny --round tiny-r2 --only data --out tiny-data`
    - `rstar export hub --store s3://lab/tiny --license mit --push my-lab/tiny`
    """
    _check_libraries()
    from rstar.hub_export.cards import CardSettings
    from rstar.hub_export.export import write_export
    from rstar.hub_export.made import made_rounds
    from rstar.hub_export.plan import plan_export
    from rstar.hub_export.push import check_online
    from rstar.hub_export.writing import ExportError
    from rstar.store.store import StoreError

    for option, name in (("--push", push), ("--base-model", base_model or None)):
        _check_name(option, name)
    if "://" not in store and not Path(store).is_dir():
        raise CommandError(f"there is no store {store}: give --store FOLDER or s3://BUCKET/PREFIX")
    opened = opened_store(store)
    parts: list[Part] = [part.value for part in only or PartName]
    unreadable: list[str] = []
    try:
        plan = plan_export(made_rounds(opened, round_names or (), unreadable), parts)
    except ValueError as error:
        raise CommandError(str(error)) from None
    except StoreError as error:
        raise CommandError(str(error), FAILED) from None
    if not plan.tables and not plan.models:
        raise CommandError(f"the rounds have no {' and no '.join(parts)} yet: finish a stage that makes it")
    if dry_run:
        _print(plan, out, push, json=json, dry_run=True)
        return
    command = _command(round_names or (), parts if only else (), license_name, base_model, push)
    settings = CardSettings(license_name, base_model, push or "", command)
    try:
        if push is not None:
            check_online()
        written = write_export(opened, plan, out, settings, unreadable, lambda text: typer.echo(text, err=True))
        urls = _push(written.folders, out, push, private=not public) if push is not None else {}
    except (ExportError, StoreError) as error:
        raise CommandError(str(error), FAILED) from None
    _print(plan, out, push, json=json, written=written, urls=urls)
    if written.left_out:
        raise CommandError("\n".join(f"left out: {text}" for text in written.left_out), FAILED)


def _check_libraries() -> None:
    from importlib.util import find_spec

    from rstar.distribution import extra

    if find_spec("huggingface_hub") is None:
        raise CommandError(f"cards for the hub need one more library: {extra('jobs')}")


def _check_name(option: str, name: str | None) -> None:
    from rstar.hub_name import read_hub_name

    if name is None:
        return
    try:
        parsed = read_hub_name(name, "model")
    except ValueError:
        parsed = None
    if parsed is None or parsed.repository != name or name.count("/") != 1:
        raise CommandError(f"{option} {name}: write a name on the hub, ORG/NAME")


def _command(rounds: Sequence[str], only: Sequence[str], license_name: str, base_model: str, push: str | None) -> str:
    """Return the command for the cards. The store's place is left out: a card is public, a bucket's name may not be."""
    import shlex

    words = ["rstar", "export", "hub", "--store", "STORE"]
    words += [word for name in rounds for word in ("--round", name)]
    words += [word for part in only for word in ("--only", part)]
    words += ["--license", license_name]
    words += ["--base-model", base_model] if base_model else []
    words += ["--push", push] if push else []
    return shlex.join(words)


def _push(folders: Sequence[str], out: Path, repository: str, *, private: bool) -> dict[str, str]:
    """Upload the folders; return the URLs by folder."""
    from rstar.hub_export.push import push_folder, repository_of

    urls = {}
    for folder in folders:
        name, kind = repository_of(folder, repository)
        typer.echo(f"uploading {out / folder} to {name}", err=True)
        urls[folder] = push_folder(out / folder, name, kind, private=private)
    return urls


def _print(
    plan: ExportPlan,
    out: Path,
    push: str | None,
    *,
    json: bool,
    dry_run: bool = False,
    written: Written | None = None,
    urls: dict[str, str] | None = None,
) -> None:
    from rstar.hub_export.plan import DATA
    from rstar.hub_export.push import repository_of

    sizes: dict[str, tuple[int, int]] = {}
    if plan.tables:
        sizes[DATA] = (len(plan.tables), sum(shard.source.output.size for shard in plan.tables))
    for model in plan.models:
        sizes[model.folder] = (len(model.files), sum(source.output.size for source in model.files))
    rows: list[dict[str, Any]] = []
    for folder, (files, size) in sizes.items():
        if written is not None and folder not in written.folders:
            continue
        repository = repository_of(folder, push)[0] if push else ""
        rows.append(
            {"folder": str(out / folder), "files": files, "bytes": size, "repository": repository}
            | ({"url": urls[folder]} if urls else {})
        )
    if json:
        import json as encoder

        left_out = written.left_out if written is not None else []
        typer.echo(encoder.dumps({"dryRun": dry_run, "folders": rows, "leftOut": left_out}))
        return
    for row in rows:
        target = row.get("url") or row["repository"]
        verb = "would be written" if dry_run else "written"
        typer.echo(
            f"{row['folder']}: {verb}, {row['files']} files, {row['bytes'] / 1e6:.1f} MB{f' -> {target}' if target else ''}"
        )
