"""Small real programs that follow the protocol of stages and services, and a driver that runs them.

``programs.py stage NAME --result FILE --control FOLDER ...``, ``programs.py service KIND ...`` and
``programs.py drive FILE STORE``. The lines of ``control/NAME`` are the behaviours of a stage, one for each attempt:
ok (default), fail, refuse, no-manifest, hang, print (lines, the last one when ``control/continue`` exists). Every start
is recorded in ``control/started``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path


def stage(arguments: argparse.Namespace) -> None:
    control: Path = arguments.control
    script = control / arguments.name
    behaviour, *later = (script.read_text().split() if script.exists() else []) or ["ok"]
    if script.exists():
        script.write_text("\n".join(later))
    with (control / "started").open("a") as started:
        started.write(
            f"{arguments.round_name} {arguments.name} {os.getpid()} {behaviour} {' '.join(arguments.input)}\n"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments.progress.write_text(json.dumps({"stage": arguments.name, "done": 1, "total": 2}))
    while behaviour == "hang":
        time.sleep(0.02)
    if behaviour == "print":
        print("first line\nsecond line", flush=True)
        while not (control / "continue").exists():
            time.sleep(0.02)
        print("last line", end="", flush=True)
    if behaviour == "fail":
        raise RuntimeError("the disk is on fire")
    if behaviour == "refuse":
        print("problems.jsonl:3: no question", file=sys.stderr)
        sys.exit(2)
    if behaviour == "no-manifest":
        sys.exit(0)
    given = hashlib.sha256(" ".join(sorted(arguments.input)).encode()).hexdigest()[:16]
    key = f"rounds/{arguments.round_name}/{arguments.name}/{given}/manifest.json"
    measured = {
        "pair_accuracy": 0.8,
        "pair_accuracy_low": 0.7,
        "pairs_held_out_non_final": 90,
        "problems_held_out_non_final": 45,
    }
    metrics = {"train-ppm": measured, "rollout": {"coverage": 0.5}}.get(arguments.name, {})
    manifest = json.dumps({"stage": arguments.name, "inputs": arguments.input, "metrics": metrics}).encode()
    path = Path(arguments.store) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(manifest)
    result = {"manifest": key, "digest": hashlib.sha256(manifest).hexdigest(), "metrics": metrics}
    arguments.result.write_text(json.dumps(result))


def service(arguments: argparse.Namespace) -> None:
    control: Path = arguments.control
    with (control / "services").open("a") as started:
        started.write(f"{arguments.name} {os.getpid()} {arguments.model} {' '.join(arguments.upstream)}\n")
    orders = control / f"service-{arguments.name}"
    if orders.exists() and orders.read_text() == "crash":
        print("no memory left", file=sys.stderr)
        sys.exit(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    partial = arguments.ready_file.with_suffix(".partial")
    partial.write_text(f"127.0.0.1:{os.getpid()}")
    partial.replace(arguments.ready_file)
    while True:
        time.sleep(0.05)


def drive(arguments: argparse.Namespace) -> None:
    from rstar.local.driver import round_number, run_rounds
    from rstar.rounds.load import load_rounds
    from rstar.store.open import open_store
    from tests.support.local.commands import ProgramCommands

    store = Path(arguments.store)
    work = store / ".rstar"
    rounds = load_rounds(Path(arguments.file), number_of=lambda name: round_number(work, name))
    commands = ProgramCommands(store, arguments.control)
    result = run_rounds(rounds, open_store(str(store)), work, commands)
    phases = {name: [status.phase, status.message] for name, status in result.statuses.items()}
    print(json.dumps({"phases": phases, "signal": result.signal, "log": str(result.log)}))


def main() -> None:
    parser = argparse.ArgumentParser()
    kinds = parser.add_subparsers(required=True)
    for name, function in (("stage", stage), ("service", service)):
        kind = kinds.add_parser(name)
        kind.set_defaults(function=function)
        kind.add_argument("name")
        kind.add_argument("--control", type=Path, required=True)
        kind.add_argument("--store")
        kind.add_argument("--round-name")
        kind.add_argument("--input", action="append", default=[])
        kind.add_argument("--result", type=Path)
        kind.add_argument("--progress", type=Path)
        kind.add_argument("--search")
        kind.add_argument("--ready-file", type=Path)
        kind.add_argument("--model")
        kind.add_argument("--upstream", action="append", default=[])
    driver = kinds.add_parser("drive")
    driver.set_defaults(function=drive)
    driver.add_argument("file")
    driver.add_argument("store")
    driver.add_argument("--control", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
