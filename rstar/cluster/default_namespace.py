"""The namespace of a user who names none: the one of the kubeconfig's context."""

from __future__ import annotations

from pathlib import Path

from kubernetes import config

from rstar.cluster.api import ClusterError


def default_namespace(kubeconfig: Path | None, context: str | None) -> str:
    """Return the namespace. Raises ``ClusterError`` when the kubeconfig has no such context."""
    try:
        contexts, active = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"no cluster to talk to: {str(error).rstrip('.')}; set KUBECONFIG or --kubeconfig") from None
    chosen = active if context is None else next(item for item in contexts if item["name"] == context)
    return str((chosen.get("context") or {}).get("namespace") or "default")
