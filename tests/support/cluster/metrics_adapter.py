"""A stand-in for prometheus-adapter: every pod, and every Service, has the same number of queued tokens.

The API server forwards both metrics APIs to it, and the real HorizontalPodAutoscaler controller reads them.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from rstar_testbed.certificates import issue, new_authority
from rstar_testbed.cluster import Testbed

from rstar.cluster.api import PODS, Cluster, Json

METRIC: Final = "rstar_policy_queued_tokens"
_CUSTOM: Final = "/apis/custom.metrics.k8s.io/v1beta2"
_EXTERNAL: Final = "/apis/external.metrics.k8s.io/v1beta1"
_SERVICE: Final = "rstar-test-metrics"


class MetricsAdapter:
    """``tokens``: the figure of every pod and of every Service. ``selectors``: those of the requests, by API."""

    def __init__(self, api: Cluster) -> None:
        self.api = api
        self.tokens = 0
        self.selectors: dict[str, set[str]] = {"pods": set(), "external": set()}

    def answer(self, target: str) -> Json | None:
        """Return the answer to a request, None for an unknown path."""
        url = urlsplit(target)
        selector = parse_qs(url.query).get("labelSelector", [""])[0]
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        match unquote(url.path).removeprefix(_CUSTOM).removeprefix(_EXTERNAL).strip("/").split("/"):
            case [""]:
                return self._resources(url.path)
            case ["namespaces", namespace, "pods", "*", name] if name == METRIC:
                self.selectors["pods"].add(selector)
                pods = [pod["metadata"]["name"] for pod in self.api.list(PODS, namespace, selector)]
                items = [
                    {
                        "describedObject": {"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": pod},
                        "metric": {"name": METRIC},
                        "timestamp": now,
                        "value": str(self.tokens),
                    }
                    for pod in pods
                ]
                return _list("MetricValueList", "custom.metrics.k8s.io/v1beta2", items)
            case ["namespaces", _, name] if name == METRIC:
                self.selectors["external"].add(selector)
                item = {"metricName": METRIC, "metricLabels": {}, "timestamp": now, "value": str(self.tokens)}
                return _list("ExternalMetricValueList", "external.metrics.k8s.io/v1beta1", [item])
        return None

    def _resources(self, path: str) -> Json:
        custom = path == _CUSTOM
        resource = {
            "name": f"pods/{METRIC}" if custom else METRIC,
            "singularName": "",
            "namespaced": True,
            "kind": "MetricValueList" if custom else "ExternalMetricValueList",
            "verbs": ["get"],
        }
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": path.removeprefix("/apis/"),
            "resources": [resource],
        }


def _list(kind: str, version: str, items: list[Json]) -> Json:
    return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}


@contextlib.contextmanager
def metrics_adapter(bed: Testbed, api: Cluster, folder: Path) -> Iterator[MetricsAdapter]:
    """Serve both metrics APIs in the cluster until the ``with`` ends."""
    adapter = MetricsAdapter(api)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = adapter.answer(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body or {}).encode())

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    pair = issue(new_authority("metrics"), "localhost", hosts=("localhost",))
    certificate, key = folder / "metrics.crt", folder / "metrics.key"
    certificate.write_bytes(pair.certificate_pem)
    key.write_bytes(pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    objects = yaml.safe_dump_all(_objects(server.server_port))
    bed.kubectl("create", "-f", "-", input=objects)
    try:
        yield adapter
    finally:
        bed.kubectl("delete", "-f", "-", input=objects)
        server.shutdown()
        thread.join()
        server.server_close()


def _objects(port: int) -> list[Json]:
    """Return the two APIServices. A Service of type ExternalName leads to the server, which runs in no pod."""
    head = {"name": _SERVICE, "namespace": "default"}
    spec = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    objects: list[Json] = [{"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": spec}]
    for path in (_CUSTOM, _EXTERNAL):
        group, version = path.removeprefix("/apis/").split("/")
        api = {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {**head, "port": port},
        }
        name = {"name": f"{version}.{group}"}
        objects.append({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": name, "spec": api})
    return objects
