"""Explains errors of the API server to a user: one sentence with the remedy, and the server's message in it."""

from __future__ import annotations

from rstar.cluster.api import ClusterError


def explain_error(error: ClusterError, namespace: str, *, role: str) -> str:
    """Return the sentence. ``role`` is the role that the request needs."""
    text = str(error)
    if error.code == 401:
        return f"the cluster does not know you: log in to it again ({text})"
    if error.code == 403 and error.reason == "Forbidden" and "exceeded quota" not in text and "denied" not in text:
        return f"{text}; ask your admin for the role {role}, or charts/rstar-tenant's rstar-rounds, in namespace {namespace}"
    if error.code == 404 and not error.reason:
        return "the cluster does not know EvolutionRounds: install charts/rstar first"
    if error.code == 404 and text == f'namespaces "{namespace}" not found':
        return f"there is no namespace {namespace}"
    return text


def is_transient(error: ClusterError) -> bool:
    """Return whether the same request may succeed in a moment."""
    return error.code in {0, 429} or error.code >= 500
