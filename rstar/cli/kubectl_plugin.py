"""``kubectl rstar ...``: the commands of ``rstar`` that know namespaces, with the kubeconfig's namespace as the default place.

kubectl runs the program ``kubectl-rstar`` on the PATH with the words after its name, and ``kubectl_complete-rstar`` for its
completion. Both are entry points of this module. Not covered: kubectl's options that change the user (``--as``, ``--token``).
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, Final

import typer
from typer.core import TyperGroup

from rstar.cli.choose_location import ClusterOnly
from rstar.cli.errors import exit_by
from rstar.cli.main import app

PROGRAM: Final = "kubectl rstar"
_COMPLETE: Final = "_KUBECTL_RSTAR_COMPLETE"
_KUBECTL_OPTIONS: Final = ("--namespace", "--context", "--kubeconfig")

NO_FILES, DEFAULT = ":4", ":0"
"""The last line of a completion (cobra's directives): nothing else fits; or the shell may complete names of files."""


def plugin() -> TyperGroup:
    """Return the group of commands that take a namespace."""
    whole: Any = typer.main.get_command(app)
    commands = {name: command for name, command in whole.commands.items() if _takes_namespace(command)}
    for command in commands.values():
        _adapt(command, "|".join(commands))
    return TyperGroup(
        name=PROGRAM,
        commands=commands,
        help="Rounds of rStar-Math in a namespace of this cluster; -n, --context and --kubeconfig as in kubectl.\n\n"
        "Example: `kubectl rstar status -n lab --watch`",
        epilog="Exit codes: 0 done, 1 it ran and failed, 2 bad input (nothing was started), 130 Ctrl-C.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        # Without options the commands of rstar mean a store on this machine.
        context_settings={"help_option_names": ["-h", "--help"], "obj": ClusterOnly()},
    )


def _takes_namespace(command: Any) -> bool:
    inner = getattr(command, "commands", {}).values()
    return any(parameter.name == "namespace" for parameter in command.params) or any(map(_takes_namespace, inner))


def _adapt(command: Any, names: str) -> None:
    """Leave out of the help what is about a store on this machine, and show the examples as this program's.

    ``names``: of the plugin's commands, separated by |.
    """
    for parameter in command.params:
        parameter.hidden = getattr(parameter, "hidden", False) or parameter.name == "store"
    lines = (command.help or "").splitlines()
    kept = [line for line in lines if "--store" not in line and not line.startswith("On this machine")]
    command.help = re.sub(rf"`rstar (?=(?:{names})\b)", f"`{PROGRAM} ", "\n".join(kept))
    for inner in getattr(command, "commands", {}).values():
        _adapt(inner, names)


def moved_options(words: Sequence[str]) -> list[str]:
    """Return the words with kubectl's options behind the command: users write them before it, as ``kubectl -n lab get``.

    >>> moved_options(["-n", "lab", "status", "r1"])
    ['status', 'r1', '-n', 'lab']
    """
    taken = 0
    while taken < len(words):
        name, equals, _ = words[taken].partition("=")
        if name == "-n" or name in _KUBECTL_OPTIONS:
            taken += 1 if equals else 2
        elif name.startswith("-n") and not name.startswith("--"):
            taken += 1
        else:
            break
    return [*words[taken:], *words[:taken]]


def run() -> None:
    """Run the plugin and exit."""
    exit_by(lambda: plugin()(args=moved_options(sys.argv[1:]), prog_name=PROGRAM))


def complete() -> None:
    """Print what may follow the words of the command line, one ``VALUE<TAB>DESCRIPTION`` per line, and a directive."""
    print("\n".join(completions(sys.argv[1:])))


def completions(words: Sequence[str]) -> list[str]:
    """Return the lines for kubectl; the last of ``words`` is not complete, '' for a new one."""
    *before, incomplete = words or [""]
    line = shlex.join(["kubectl-rstar", *moved_options(before)]) + " "
    # Typer's completion for fish has kubectl's form.
    os.environ |= {_COMPLETE: "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    os.environ["_TYPER_COMPLETE_ARGS"] = line + (shlex.quote(incomplete) if incomplete else "")
    found = io.StringIO()
    try:
        with redirect_stdout(found):
            plugin().main(args=[], prog_name=PROGRAM, complete_var=_COMPLETE)
    except SystemExit:
        pass
    lines = [text for text in found.getvalue().splitlines() if text.partition("\t")[0] not in {"", incomplete}]
    return [*lines, NO_FILES if lines else DEFAULT]
