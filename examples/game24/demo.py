"""The whole method in one command: games, a base model, four rounds of self-evolution, a table.

    python examples/game24/demo.py --out out/game24 [--quick]

Each step is a command that you could type yourself, and is shown before it runs. A step whose result exists is skipped,
so an interrupted demo can be resumed. All results come from the commands; the demo only puts them in one table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rstar.store.atomic import atomic_write

HERE = Path(__file__).parent
RSTAR = str(Path(sysconfig.get_path("scripts")) / "rstar")
FULL = {"train": "3:20,4:160,5:320", "validation": "4:50,5:50", "held-out": "4:100,5:100"}
FULL_PLAYS = ("--plays", "50000")
QUICK = {"train": "3:30,4:90", "validation": "3:5,4:15", "held-out": "3:10,4:30"}
QUICK_PLAYS = ("--plays", "20000", "--sizes", "3", "--sizes", "4")
METHODS = (
    ("policy alone", "greedy", "accuracy"),
    ("any of 16 samples", "best-of-16", "any"),
    ("best of 16 by PPM", "best-of-16", "accuracy"),
    ("MCTS + PPM", "mcts+ppm", "accuracy"),
)
console = Console(width=None if sys.stdout.isatty() else 120)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the demo; existing results are not made again.")] = Path(
        "out/game24"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Two small rounds, to check that everything works.")] = False,
) -> None:
    """Run four rounds of self-evolution on the Game of 24 and show the results of each."""
    start = time.monotonic()
    games, plays = (QUICK, QUICK_PLAYS) if quick else (FULL, FULL_PLAYS)
    rounds = HERE / ("quick.yaml" if quick else "rounds.yaml")
    store, data, base = out / "store", out / "store/data", out / "store/models/base"
    counts = [word for part, count in games.items() for word in (f"--{part}", count)]
    if not (data / "held-out.jsonl").exists():
        step("the games, disjoint by their numbers", RSTAR, "data", "make", "game24", "--out", str(data), *counts)
    if not (base / "config.json").exists():
        excluded = [word for part in ("validation", "held-out") for word in ("--exclude", str(data / f"{part}.jsonl"))]
        step(
            "a base model that knows the rules and little else",
            *(sys.executable, str(HERE / "pretrain.py"), "--out", str(base), *plays, *excluded),
        )
    if not (out / "base.json").exists():
        step(
            "the base model alone",
            *(RSTAR, "evaluate", "--policy-model", str(base), "--problems", str(data / "held-out.jsonl")),
            *("--format", "countdown", "--verifier", "countdown", "--method", "greedy", "--concurrency", "128"),
            *("--method", "majority:rollouts=16", "--set", "maxDepth=5", "--set", "maxNewTokens=32"),
            *("--set", "answer=output", "--json"),
            save=out / "base.json",
        )
    step("self-evolution", RSTAR, "run", str(rounds), "--store", str(store))
    status = subprocess.run(
        [RSTAR, "status", str(rounds), "--store", str(store), "--json"], check=True, capture_output=True, text=True
    )
    show(json.loads((out / "base.json").read_text()), json.loads(status.stdout), store)
    console.print(f"\n{(time.monotonic() - start) / 60:.1f} minutes. Everything is in {out}; delete it to start over.")
    hints(store, json.loads(status.stdout))


def step(what: str, *command: str, save: Path | None = None) -> None:
    """Show and run one command; ``save`` gets its output. Ends the demo with the command's exit code if it fails."""
    console.print(
        f"\n[bold]{what}[/bold]\n[dim]$ {' '.join(word.replace(sys.executable, 'python') for word in command)}[/dim]"
    )
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE if save else None, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    if save:
        with atomic_write(save) as file:
            file.write(done.stdout.encode())


def show(base: dict[str, Any], status: dict[str, Any], store: Path) -> None:
    """Print the table by round: share of the held-out games solved | generated tokens per game."""
    table = Table(title="Held-out games solved | generated tokens per game")
    for column in ("", *(label for label, _, _ in METHODS), "training games solved", "PPM pair accuracy"):
        table.add_column(column, justify="right" if column else "left")
    by_name = {method["name"].split(":")[0]: method for method in base["methods"]}
    sampled = by_name["majority"]
    table.add_row("base", cell(by_name["greedy"], "accuracy"), cell(sampled, "any"), "-", "-", "-", "-")
    for row in status["rounds"]:
        methods = {method["name"]: method for method in row["methods"]}
        figures = [cell(methods.get(name), key) for _, name, key in METHODS]
        table.add_row(row["round"], *figures, share(row["coverage"]), share(row["pair_accuracy"]))
    console.print()
    console.print(table)
    problems = base["problems"]
    console.print(f"{problems} held-out games; one standard error is at most {0.5 / problems**0.5:.3f}.", style="dim")


def cell(method: dict[str, Any] | None, key: str) -> str:
    """Return ``0.423 | 417``: a share and the tokens that it cost."""
    return "-" if method is None else f"{share(method[key])} | {method['tokens']:,.0f}"


def share(value: float | None) -> str:
    """Return a share with three decimals."""
    return "-" if value is None else f"{value:.3f}"


def hints(store: Path, status: dict[str, Any]) -> None:
    """Print commands to try next, with the paths of this run."""
    last = status["rounds"][-1]["round"]

    def made(stage: str, name: str) -> str:
        return str(next(iter(sorted(store.glob(f"rounds/{last}/{stage}/*/{name}"))), f"({stage} left none)"))

    rstar, python = (os.path.relpath(program) for program in (RSTAR, sys.executable))
    tries = (
        f"{rstar} solve 'Make 24 from 3, 8, 8, 9, using each number once and + - * /.' --set answer=output \\\n"
        f"    --policy-model {made('train-policy', 'checkpoint')} --ppm-model {made('train-ppm', 'checkpoint')} \\\n"
        "    --set candidates=2 --set widening=2 --set exploration=0.3 --set maxNewTokens=32 --set tokenBudget=1000",
        f"{rstar} report --store {store} --output {store.parent / 'report.html'}   # a page to open in a browser",
        f"{rstar} status --store {store}",
        f"{python} -c \"import pandas; print(pandas.read_parquet('{made('select', 'pairs')}'))\"",
    )
    console.print("\nTry next:")
    for line in tries:
        console.print(f"  {line}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
