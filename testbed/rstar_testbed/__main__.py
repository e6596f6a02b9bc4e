"""``python -m rstar_testbed``: build the programs, run a testbed, print the environment that a shell needs to use it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from rstar_testbed.addresses import NODE
from rstar_testbed.binaries import Binaries, search_path
from rstar_testbed.cluster import Testbed
from rstar_testbed.errors import TestbedError
from rstar_testbed.modules import MODULES
from rstar_testbed.node.images import Builder, chart_options, report_to_stderr
from rstar_testbed.node.packages import missing_packages
from rstar_testbed.node.registry import PORT
from rstar_testbed.processes import answers

ENVIRONMENT: Final = "environment.json"
BUCKET: Final = "rstar"
"""The bucket of the environment's ``RSTAR_STORE``."""
IMAGES: Final = ("executor", "jobs", "operator", "policy", "ppm", "search")
"""The images that the charts' defaults need."""

app = typer.Typer(
    name="python -m rstar_testbed",
    add_completion=False,
    help="A real Kubernetes control plane on this machine, with training-operator and MinIO; no container engine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which programs; all that the tests of CI use if none is named.")
    ] = None,
) -> None:
    """Build the programs that the cache lacks, and print where each is.

    Example: `python -m rstar_testbed build helm helm-unittest`
    """
    binaries = Binaries()
    for name in names or [name for module in MODULES if not module.on_demand for name in module.names]:
        if name not in set(binaries):
            raise TestbedError(f"There is no program {name}: name one of {', '.join(binaries)}.")
        typer.echo(f"{name}\t{binaries[name]}")


@app.command()
def packages() -> None:
    """Print the Debian packages that a node and its images need and this machine lacks, on one line.

    Example: `apt-get install $(python -m rstar_testbed packages)`
    """
    typer.echo(" ".join(missing_packages()))


@app.command()
def images(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Which images; {', '.join(IMAGES)} if none is named.")
    ] = None,
) -> None:
    """Build images, push them to the registry of the node that is up, and print the options by which helm takes them.

    Example: `helm install rstar charts/rstar $(python -m rstar_testbed images operator executor)`
    """
    registry = f"{NODE.machine}:{PORT}"
    if not answers(f"http://{registry}/v2/"):
        raise TestbedError("No testbed with a node is up: start one with 'python -m rstar_testbed up --node'.")
    builder = Builder(report_to_stderr)
    builder.build(names or IMAGES)
    pushed = {name: builder.push(name, registry, "built") for name in names or IMAGES}
    typer.echo(" ".join(chart_options(pushed)))


@app.command()
def up(
    folder: Annotated[Path | None, typer.Option(help="New or empty folder; a temporary one if not given.")] = None,
    training_operator: Annotated[bool, typer.Option(help="Run the stock training-operator.")] = True,
    trainer: Annotated[
        bool, typer.Option("--trainer", help="Run the stock trainer and JobSet controller, for TrainJobs.")
    ] = False,
    minio: Annotated[bool, typer.Option(help="Run MinIO.")] = True,
    node: Annotated[
        bool,
        typer.Option(
            "--node", help="With a node that runs pods in containers (needs root and containerd); else no pod runs."
        ),
    ] = False,
) -> None:
    """Start a testbed and keep it up until Ctrl-C.

    Example: `python -m rstar_testbed up --folder out/testbed`, and in another shell `eval "$(python -m rstar_testbed env out/testbed)"`
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="rstar-testbed-") as scratch:
        target = folder or Path(scratch)
        started = time.monotonic()
        with Testbed.start(target, training_operator=training_operator, trainer=trainer, minio=minio, node=node) as bed:
            if bed.minio:
                bed.minio.client().make_bucket(BUCKET)
            (target / ENVIRONMENT).write_text(json.dumps(_environment(bed), indent=2))
            print(f"testbed: ready in {time.monotonic() - started:.1f} s; Ctrl-C ends it", file=sys.stderr)
            typer.echo(_exports(_environment(bed)))
            sys.stdout.flush()
            try:
                signal.pause()
            except KeyboardInterrupt:
                print("testbed: ending", file=sys.stderr)
            finally:
                (target / ENVIRONMENT).unlink()


@app.command()
def shell(folder: Annotated[Path, typer.Argument(help="Folder of a testbed that is up.")]) -> None:
    """Start a shell that uses a testbed: KUBECONFIG, the store, and PATH with kubectl and helm are set.

    Example: `python -m rstar_testbed shell out/testbed`
    """
    written = _written(folder)
    program = os.environ.get("SHELL", "/bin/sh")
    path = f"{written.pop('PATH')}{os.pathsep}{os.environ['PATH']}"
    os.execvpe(program, [program], {**os.environ, **written, "PATH": path})


@app.command()
def env(folder: Annotated[Path, typer.Argument(help="Folder of a testbed that is up.")]) -> None:
    """Print what a shell needs to use a testbed: KUBECONFIG, the store, and PATH with kubectl and helm.

    Example: `eval "$(python -m rstar_testbed env out/testbed)"`
    """
    typer.echo(_exports(_written(folder)))


def _written(folder: Path) -> dict[str, str]:
    written = folder / ENVIRONMENT
    if not written.exists():
        raise TestbedError(
            f"No testbed is up in {folder}: start one with 'python -m rstar_testbed up --folder {folder}'."
        )
    found: dict[str, str] = json.loads(written.read_text())
    return found


def _environment(bed: Testbed) -> dict[str, str]:
    return {**bed.environment(), "PATH": search_path(("kubectl", "helm", "helm-unittest", "helm-docs"))}


def _exports(environment: dict[str, str]) -> str:
    lines = [
        f"export {name}={shlex.quote(value)}" if name != "PATH" else f'export PATH={shlex.quote(value)}:"$PATH"'
        for name, value in environment.items()
    ]
    return "\n".join(lines)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run() -> None:
    """Run the command line and exit."""
    try:
        app()
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
