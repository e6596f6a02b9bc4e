"""The operator's command line: ``rstar-operator run``. A bad configuration ends it before it watches anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="rstar-operator",
    help="Runs Evolutions and EvolutionRounds on a Kubernetes cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _commands() -> None:
    """Make ``run`` a subcommand, although it is the only one."""


@app.command("run")
def run_operator(
    config: Annotated[Path, typer.Option(help="The operator's configuration, a YAML file.", show_default=False)],
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Serve only this namespace; repeatable.")
    ] = None,
    liveness: Annotated[str, typer.Option(help="HOST:PORT where /healthz answers; empty: nowhere.")] = "0.0.0.0:8080",
    metrics: Annotated[str, typer.Option(help="HOST:PORT where Prometheus reads /metrics; empty: nowhere.")] = "",
) -> None:
    """Serve the rounds of the whole cluster, or of some namespaces, until SIGTERM.

    The cluster is the pod's own, or KUBECONFIG's. Several operators may serve the same rounds.

    Example: `rstar-operator run --config operator.yaml --namespace lab-a --namespace lab-b`
    """
    from prometheus_client import start_http_server

    from rstar.cluster.api import Cluster, ClusterError
    from rstar.rpc import tracing
    from rstar.rpc.logs import configure_logs
    from rstar_operator.backends import backend_of
    from rstar_operator.cache import Cache
    from rstar_operator.configuration import ConfigurationError, load_configuration
    from rstar_operator.metrics import register
    from rstar_operator.reconcile import Reconciler
    from rstar_operator.reconcile_evolution import EvolutionReconciler
    from rstar_operator.watching import Watcher

    configure_logs("operator")
    url = _health_url(liveness) if liveness else None
    metrics_address = _address(metrics, "--metrics") if metrics else None
    try:
        configuration = load_configuration(config)
        tracing.start("operator")
        cluster = Cluster.connect(user_agent="rstar-operator")
    except (ConfigurationError, ClusterError, tracing.TracingError) as error:
        for line in str(error).splitlines():
            typer.echo(f"rstar-operator: {line}", err=True)
        raise typer.Exit(2) from None
    backend = backend_of(configuration)
    cache = Cache(backend.kinds)
    register(cache)
    if metrics_address is not None:
        host, port = metrics_address
        try:
            start_http_server(port, host)
        except OSError as error:
            typer.echo(f"rstar-operator: --metrics: cannot listen on {metrics}: {error.strerror}", err=True)
            raise typer.Exit(2) from None
    reconciler = Reconciler(cluster, configuration, backend, cache.put)
    evolutions = EvolutionReconciler(cluster, cache.put)
    keda = configuration.autoscaling.kind == "keda"
    Watcher(cluster, reconciler, evolutions, cache, namespace or (), configuration.workers, keda=keda).run(url)
    tracing.stop()


def _health_url(address: str) -> str:
    """Return the URL for kopf. An IPv6 address needs brackets in it."""
    from rstar.rpc.addresses import join_address

    host, port = _address(address, "--liveness")
    return f"http://{join_address(host, port)}/healthz"


def _address(text: str, option: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT, an IPv6 host without its brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"{text!r} is not an address to listen on: write HOST:PORT", param_hint=option)
    return host.strip("[]"), int(port)


def run() -> None:
    """Run the command line and exit."""
    sys.exit(app())


if __name__ == "__main__":
    run()
