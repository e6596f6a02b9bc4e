"""``rstar data make ...``: writes problem files for the examples; existing files are never overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar.cli.errors import CommandError

data = typer.Typer(no_args_is_help=True, help="Make problem files.")
make = typer.Typer(no_args_is_help=True, help="Make problem files.\n\nExample: `rstar data make game24 --out data`")
data.add_typer(make, name="make")


@make.command("game24")
def game24(
    out: Annotated[
        Path, typer.Option(help="Folder for train.jsonl, validation.jsonl and held-out.jsonl.", show_default=False)
    ],
    train: Annotated[
        str, typer.Option(help="Training games: COUNT (of four numbers each) or SIZE:COUNT,...")
    ] = "3:20,4:280,5:800",
    validation: Annotated[str, typer.Option(help="Validation games, written likewise.")] = "4:50,5:50",
    held_out: Annotated[str, typer.Option(help="Held-out games, written likewise.")] = "4:100,5:100",
    numbers: Annotated[str, typer.Option(help="Range of the numbers, LOW-HIGH.")] = "1-10",
    target: Annotated[int, typer.Option(min=1, help="The number to reach.")] = 24,
    max_value: Annotated[int, typer.Option(min=1, help="Largest intermediate value.")] = 60,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Make solvable number games in three files that share no set of numbers.

    Example: `rstar data make game24 --out data --train 3:20,4:280 --held-out 200 --numbers 1-13`
    """
    import json as encoder

    from rstar.countdown import split_games

    try:
        split = split_games(
            train=_counts("--train", train),
            validation=_counts("--validation", validation),
            held_out=_counts("--held-out", held_out),
            seed=seed,
            numbers=_range(numbers),
            target=target,
            max_value=max_value,
        )
    except ValueError as error:
        raise CommandError(str(error)) from None
    files = {"train": split.train, "validation": split.validation, "held-out": split.held_out}
    paths = {name: out / f"{name}.jsonl" for name in files}
    existing = [str(path) for path in paths.values() if path.exists()]
    if existing:
        raise CommandError(
            f"{', '.join(existing)} {'exists' if len(existing) == 1 else 'exist'} already; choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, games in files.items():
        rows = (encoder.dumps({"nums": list(game), "target": target}) for game in games)
        paths[name].write_text("".join(f"{row}\n" for row in rows))
    if json:
        typer.echo(
            encoder.dumps({name: {"path": str(paths[name]), "games": len(games)} for name, games in files.items()})
        )
        return
    for name, games in files.items():
        typer.echo(f"{paths[name]}: {len(games)} games")


def _counts(option: str, text: str) -> dict[int, int]:
    """Return {numbers per game: games} for '1000' or '3:20,4:280'."""
    try:
        if ":" not in text:
            return {4: int(text)}
        return {int(size): int(count) for size, count in (part.split(":") for part in text.split(","))}
    except ValueError:
        raise CommandError(f"{option} {text}: write COUNT, or SIZE:COUNT,... like 3:20,4:280") from None


def _range(text: str) -> range:
    low, dash, high = text.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and int(low) <= int(high)):
        raise CommandError(f"--numbers {text}: write LOW-HIGH like 1-10")
    return range(int(low), int(high) + 1)
