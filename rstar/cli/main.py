"""The entry point ``rstar``: the list of commands, and how their errors become messages and exit codes.

A command's libraries are imported when it runs, so that the command line starts fast.
"""

from __future__ import annotations

from importlib.metadata import version as distribution_version

import typer

from rstar.cli.data_command import data
from rstar.cli.doctor_command import doctor
from rstar.cli.errors import exit_by
from rstar.cli.evaluate_command import evaluate
from rstar.cli.export_command import export
from rstar.cli.init_command import init
from rstar.cli.installed_commands import InstalledCommands, InstalledServices
from rstar.cli.lifecycle_commands import cancel, resume, suspend
from rstar.cli.logs_command import logs
from rstar.cli.plan_command import plan
from rstar.cli.report_command import report
from rstar.cli.run_command import run_rounds_file
from rstar.cli.solve_command import solve
from rstar.cli.status_command import status
from rstar.cli.submit_command import submit
from rstar.cli.tree_command import tree
from rstar.cli.verify_command import verify
from rstar.distribution import DISTRIBUTION

app = typer.Typer(
    name="rstar",
    cls=InstalledCommands,
    help="rStar-Math self-evolution: rounds of search, selection and training.",
    epilog="Exit codes: 0 done, 1 it ran and failed, 2 bad input (nothing was started), 130 Ctrl-C, 143 SIGTERM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init)
app.command("run")(run_rounds_file)
app.command()(plan)
app.command()(submit)
app.command()(status)
app.command()(logs)
app.command()(suspend)
app.command()(resume)
app.command()(cancel)
app.command()(solve)
app.command()(evaluate)
app.command()(verify)
app.command()(doctor)
app.command()(report)
app.add_typer(data, name="data")
app.add_typer(export, name="export")
app.add_typer(tree, name="tree")
app.add_typer(
    typer.Typer(
        cls=InstalledServices,
        no_args_is_help=True,
        help="Start one service as a gRPC server.\n\nExample: `rstar serve policy --model checkpoints/r4 --port 50051`",
    ),
    name="serve",
)


@app.command()
def version() -> None:
    """Print the version.

    Example: `rstar version`
    """
    typer.echo(distribution_version(DISTRIBUTION))


def run() -> None:
    """Run the command line and exit."""
    exit_by(app)


if __name__ == "__main__":
    run()
