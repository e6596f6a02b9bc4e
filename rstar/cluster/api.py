"""A thin client of the Kubernetes API: plain dictionaries in and out, errors in one sentence.

The ``kubernetes`` package does connection, credentials and TLS. Bodies stay plain because the platform uses mostly
custom objects, and because a model that renames keys could rename them wrongly. Every request has a time limit. Only
requests that the API server has put off (429) are repeated, and only if ``retry_seconds`` is set: other callers read
the objects again anyway. Not covered: watches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Final

from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from rstar.cluster.names import EVOLUTIONS_PLURAL, GROUP, PLURAL, VERSION

REQUEST_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 30.0
"""For how long a user's command repeats a request that the API server puts off."""
NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
"""Reason of the error of a create in a namespace that is being deleted."""

Json = dict[str, Any]
Bodies = list[Json]

_DRY_RUN: Final = {"dryRun": "All"}
_TOO_MANY_REQUESTS: Final = 429
_SHORTEST_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of namespaced object: the start of its path (``/apis/GROUP/VERSION``) and its plural."""

    api: str
    plural: str

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of one object, or of all in a namespace ('' for all namespaces)."""
        place = f"{self.api}/namespaces/{namespace}" if namespace else self.api
        return "/".join(part for part in (place, self.plural, name, subresource) if part)

    @property
    def full_name(self) -> str:
        """The name of its CustomResourceDefinition, PLURAL.GROUP."""
        return f"{self.plural}.{self.api.split('/')[2]}"


ROUNDS: Final = Kind(f"/apis/{GROUP}/{VERSION}", PLURAL)
EVOLUTIONS: Final = Kind(f"/apis/{GROUP}/{VERSION}", EVOLUTIONS_PLURAL)
PYTORCH_JOBS: Final = Kind("/apis/kubeflow.org/v1", "pytorchjobs")
TRAIN_JOBS: Final = Kind("/apis/trainer.kubeflow.org/v1alpha1", "trainjobs")
TRAINING_RUNTIMES: Final = Kind("/apis/trainer.kubeflow.org/v1alpha1", "trainingruntimes")
DEPLOYMENTS: Final = Kind("/apis/apps/v1", "deployments")
SERVICES: Final = Kind("/api/v1", "services")
CONFIG_MAPS: Final = Kind("/api/v1", "configmaps")
PODS: Final = Kind("/api/v1", "pods")
EVENTS: Final = Kind("/api/v1", "events")
AUTOSCALERS: Final = Kind("/apis/autoscaling/v2", "horizontalpodautoscalers")
SCALED_OBJECTS: Final = Kind("/apis/keda.sh/v1alpha1", "scaledobjects")
JOBS: Final = Kind("/apis/batch/v1", "jobs")


class ClusterError(Exception):
    """A request failed; the message is one sentence. ``code``: HTTP status, 0 when the cluster is unreachable."""

    def __init__(self, message: str, code: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class NotFoundError(ClusterError):
    """There is no such object or kind."""


class AlreadyExistsError(ClusterError):
    """An object of this name exists."""


class ConflictError(ClusterError):
    """The object has changed since it was read, or is another object of the same name."""


class Cluster:
    """One cluster, as one user. Safe to share between threads.

    ``retry_seconds``: for how many seconds in all a request is repeated that the API server puts off (429: it is
    overloaded, or a kind's storage is being set up). Such a request had no effect, so that writes are repeated too.
    """

    def __init__(self, client: ApiClient, retry_seconds: float = 0.0) -> None:
        self._client = client
        self._retry_seconds = retry_seconds

    @classmethod
    def connect(
        cls,
        kubeconfig: Path | None = None,
        context: str | None = None,
        *,
        user_agent: str = "rstar",
        retry_seconds: float = 0.0,
    ) -> Cluster:
        """Connect by ``kubeconfig``, or in-cluster by the pod's service account, or by the user's own kubeconfig.

        Raises ``ClusterError`` when none of them exists or it cannot be read.
        """
        configuration = Configuration()
        try:
            if kubeconfig is None and context is None:
                try:
                    config.load_incluster_config(client_configuration=configuration)
                except config.ConfigException:
                    config.load_kube_config(client_configuration=configuration)
            else:
                path = str(kubeconfig) if kubeconfig else None
                config.load_kube_config(path, context=context, client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise ClusterError(
                f"no cluster to talk to: {str(error).rstrip('.')}; set KUBECONFIG or --kubeconfig"
            ) from None
        # A failed connection raises at once: the caller tries again by its own rules.
        configuration.retries = 0
        client = ApiClient(configuration)
        client.user_agent = user_agent
        return cls(client, retry_seconds)

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Return an object as it is now, or None when it does not exist."""
        try:
            return self._request("GET", kind.path(namespace, name))
        except NotFoundError:
            return None

    def read(self, path: str) -> Json | None:
        """Return what a path answers that is no object's: ``/version``, ``/apis/GROUP/VERSION``; None when it is not served."""
        try:
            return self._request("GET", path)
        except NotFoundError:
            return None

    def list(self, kind: Kind, namespace: str, selector: str = "", *, fields: str = "") -> Bodies:
        """Return the objects that ``selector`` matches by label and ``fields`` by field.

        ``namespace`` '': of all namespaces. The items carry no kind of their own.
        """
        return self.list_at(kind, namespace, selector, fields=fields)[0]

    def list_at(self, kind: Kind, namespace: str, selector: str = "", *, fields: str = "") -> tuple[Bodies, str]:
        """Return the same with the version of the list."""
        wanted = {"labelSelector": selector, "fieldSelector": fields}
        query = {name: value for name, value in wanted.items() if value}
        answer = self._request("GET", kind.path(namespace), query=query)
        return answer["items"], answer["metadata"]["resourceVersion"]

    def create(self, kind: Kind, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        """Create an object; ``dry_run``: only check that it could be. Raises ``AlreadyExistsError``."""
        return self._request("POST", kind.path(namespace), body=body, query=_DRY_RUN if dry_run else {})

    def delete(self, kind: Kind, namespace: str, name: str, *, uid: str, foreground: bool = False) -> None:
        """Delete the object of this uid; an object that is gone is no error. Raises ``ConflictError`` for another uid.

        ``foreground``: it stays visible, being deleted, until all that it owns is gone.
        """
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Foreground" if foreground else "Background",
        }
        try:
            self._request("DELETE", kind.path(namespace, name), body=body)
        except NotFoundError:
            return

    def patch(self, kind: Kind, namespace: str, name: str, body: Json, *, dry_run: bool = False) -> Json:
        """Merge ``body`` into an object (RFC 7386); ``dry_run``: only check that it could be."""
        return self._request("PATCH", kind.path(namespace, name), body=body, query=_DRY_RUN if dry_run else {})

    def replace_status(self, kind: Kind, namespace: str, body: Json) -> Json:
        """Replace the status of an object. Raises ``ConflictError`` when it has changed since ``body`` was read."""
        return self._request("PUT", kind.path(namespace, body["metadata"]["name"], "status"), body=body)

    def log(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        follow: bool = False,
        tail: int | None = None,
        since: str = "",
        timestamps: bool = False,
    ) -> Iterator[bytes]:
        """Yield chunks of a container's log; ``follow``: until it ends. ``since``: an RFC 3339 time, in whole seconds."""
        query = {"container": container, "sinceTime": since}
        query |= {"follow": "true"} if follow else {}
        query |= {"timestamps": "true"} if timestamps else {}
        query |= {"tailLines": str(tail)} if tail is not None else {}
        given = {key: value for key, value in query.items() if value}
        timeout = (REQUEST_SECONDS, None) if follow else REQUEST_SECONDS
        response = self._send("GET", PODS.path(namespace, pod, "log"), query=given, timeout=timeout)
        try:
            yield from response.stream(amt=None)
        except (HTTPError, OSError) as error:
            raise ClusterError(f"the log of pod {pod} broke off: {error}") from None
        finally:
            response.release_conn()

    def _request(self, method: str, path: str, *, body: Json | None = None, query: Mapping[str, str] = {}) -> Json:
        response = self._send(method, path, body=body, query=query)
        answer: Json = json.loads(response.data)
        return answer

    def _send(
        self, method: str, path: str, *, body: Json | None = None, query: Mapping[str, str] = {}, timeout: Any = None
    ) -> Any:
        headers = {"Accept": "application/json", "User-Agent": self._client.user_agent}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        remaining = self._retry_seconds
        while True:
            try:
                return self._client.call_api(
                    path,
                    method,
                    query_params=list(query.items()),
                    header_params=dict(headers),
                    body=body,
                    auth_settings=["BearerToken"],
                    _return_http_data_only=True,
                    _preload_content=False,
                    _request_timeout=timeout or REQUEST_SECONDS,
                )
            except ApiException as error:
                pause = _pause(error)
                remaining -= pause
                if error.status != _TOO_MANY_REQUESTS or remaining < 0:
                    raise _as_cluster_error(method, path, error) from None
            except (HTTPError, OSError) as error:
                # The error that urllib3 wraps is one sentence; the wrapper repeats the request.
                raise ClusterError(f"the cluster does not answer: {getattr(error, 'reason', None) or error}") from None
            sleep(pause)


def _pause(error: ApiException) -> float:
    """Return how many seconds the API server asks to wait; 1 when it gives no number."""
    asked = (error.headers or {}).get("Retry-After", "")
    return max(float(asked), _SHORTEST_PAUSE) if asked.isdecimal() else 1.0


def _as_cluster_error(method: str, path: str, error: ApiException) -> ClusterError:
    """Return the API server's error as a ``ClusterError`` with the server's message."""
    message, reason = "", ""
    try:
        status = json.loads(error.body or "")
        message, reason = status.get("message", ""), status.get("reason", "")
        causes = status.get("details", {}).get("causes") or []
        # Forbidden has many causes; no role helps against this one.
        if any(cause.get("reason") == NAMESPACE_TERMINATING for cause in causes):
            reason = NAMESPACE_TERMINATING
    except (ValueError, AttributeError):
        pass
    text = message or f"{method} {path}: {error.status} {error.reason}"
    if error.status == 404:
        return NotFoundError(text, 404, reason)
    if reason == "AlreadyExists":
        return AlreadyExistsError(text, 409, reason)
    if error.status == 409:
        return ConflictError(text, 409, reason)
    return ClusterError(text, error.status or 0, reason)
