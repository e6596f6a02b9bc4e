"""etcd, the API server and the controller manager: their options, their start and their readiness.

No scheduler and no kubelet: :mod:`rstar_testbed.kubelet` plays both, :mod:`rstar_testbed.node` runs the real ones.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rstar_testbed.addresses import LOOPBACK, Addresses
from rstar_testbed.certificates import KeyPair, issue, new_authority, new_key, private_pem
from rstar_testbed.kubeconfig import client_certificate, write_kubeconfig
from rstar_testbed.processes import Component, free_port

ADMIN_GROUP: Final = "system:masters"
FRONT_PROXY: Final = "front-proxy-client"
_ISSUER: Final = "https://kubernetes.default.svc"
_AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_SECONDS: Final = 120.0


class ControlPlane:
    """A control plane in a folder. :meth:`stop` leaves its data in the folder."""

    def __init__(self, folder: Path, binaries: Mapping[str, Path], addresses: Addresses = LOOPBACK) -> None:
        self.folder = folder
        self.addresses = addresses
        self.authority = new_authority("rstar-testbed")
        self.kubeconfig = folder / "kubeconfig"
        self.audit_log = folder / "logs/audit.jsonl"
        self._binaries = binaries
        self._tls = folder / "tls"
        self._components: list[Component] = []
        self._apiserver: Component | None = None
        self._port = free_port()
        self.server = f"https://{addresses.machine}:{self._port}"
        self._client = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())

    def start(self) -> None:
        """Start everything and return when the API answers and its controllers run."""
        self._write_keys()
        etcd, etcd_address = self._start_etcd()
        etcd.wait_until(lambda: self._http_ok(f"{etcd_address}/health"), _SECONDS)
        self._apiserver = self._start_apiserver(etcd_address)
        self._wait_for_apiserver()
        # Started only now, because it exits where the API server does not answer soon.
        controllers = self._start_controller_manager()
        # Every pod needs this account, and it is created last.
        default_account = "/api/v1/namespaces/default/serviceaccounts/default"
        controllers.wait_until(lambda: self.request("GET", default_account) is not None, _SECONDS)

    def stop(self) -> None:
        """Kill the components, last started first."""
        while self._components:
            self._components.pop().stop()

    def restart_apiserver(self, while_down: Callable[[], None]) -> None:
        """Kill the API server, call ``while_down``, start the API server again with the same data and address."""
        assert self._apiserver
        self._apiserver.stop()
        while_down()
        self._apiserver.start()
        self._wait_for_apiserver()

    def request(self, method: str, path: str, body: Any = None) -> Any | None:
        """Send one API request as cluster admin; return the answer, or None for 404 (no such object or kind)."""
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "rstar-testbed"},
        )
        try:
            with urllib.request.urlopen(request, context=self._client, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def write_user(self, path: Path, name: str, groups: tuple[str, ...] = ()) -> Path:
        """Write the kubeconfig of a user with a certificate."""
        pair = issue(self.authority, name, groups=groups)
        return write_kubeconfig(path, self.server, self.authority.certificate_pem, name, client_certificate(pair))

    def write_token(self, path: Path, name: str, token: str, namespace: str) -> Path:
        """Write the kubeconfig of a user with a bearer token."""
        authority = self.authority.certificate_pem
        return write_kubeconfig(path, self.server, authority, name, {"token": token}, namespace)

    def _wait_for_apiserver(self) -> None:
        assert self._apiserver
        self._apiserver.wait_until(lambda: self._http_ok(f"{self.server}/readyz"), _SECONDS)

    def _write_keys(self) -> None:
        self._tls.mkdir(parents=True, exist_ok=True)
        (self._tls / "ca.crt").write_bytes(self.authority.certificate_pem)
        (self._tls / "ca.key").write_bytes(self.authority.key_pem)
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        hosts = (self.addresses.machine, *names, self.addresses.kubernetes_service)
        self._write_pair("apiserver", issue(self.authority, "kube-apiserver", hosts=hosts))
        # The API server's own certificate as a client: of kubelets, and of API servers that it forwards to.
        self._write_pair("apiserver-client", issue(self.authority, FRONT_PROXY, groups=(ADMIN_GROUP,)))
        (self._tls / "service-account.key").write_bytes(private_pem(new_key()))
        admin = issue(self.authority, "rstar-testbed-admin", groups=(ADMIN_GROUP,))
        self._write_pair("admin", admin)
        self._client.load_cert_chain(self._tls / "admin.crt", self._tls / "admin.key")
        write_kubeconfig(
            self.kubeconfig, self.server, self.authority.certificate_pem, "admin", client_certificate(admin)
        )

    def _write_pair(self, name: str, pair: KeyPair) -> None:
        (self._tls / f"{name}.crt").write_bytes(pair.certificate_pem)
        (self._tls / f"{name}.key").write_bytes(pair.key_pem)

    def _launch(self, name: str, *flags: str) -> Component:
        component = Component(name, [self._binaries[name], *flags], self.folder / f"logs/{name}.log")
        self._components.append(component)
        return component

    def _start_etcd(self) -> tuple[Component, str]:
        clients, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        etcd = self._launch(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        return etcd, clients

    def _start_apiserver(self, etcd_address: str) -> Component:
        policy = self.folder / "audit-policy.json"
        policy.write_text(json.dumps(_AUDIT_POLICY))
        return self._launch(
            "kube-apiserver",
            f"--etcd-servers={etcd_address}",
            f"--bind-address={self.addresses.machine}",
            f"--advertise-address={self.addresses.machine}",
            f"--secure-port={self._port}",
            *self._node_flags(),
            f"--tls-cert-file={self._tls / 'apiserver.crt'}",
            f"--tls-private-key-file={self._tls / 'apiserver.key'}",
            f"--client-ca-file={self._tls / 'ca.crt'}",
            f"--service-account-key-file={self._tls / 'service-account.key'}",
            f"--service-account-signing-key-file={self._tls / 'service-account.key'}",
            f"--service-account-issuer={_ISSUER}",
            f"--service-cluster-ip-range={self.addresses.services}",
            "--authorization-mode=Node,RBAC",
            # As in stricter clusters: an object with blockOwnerDeletion needs the right to set the owner's finalizers.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--allow-privileged=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            # In MB. The default of 100 rotates the log, and requests would be counted in the newest file only.
            "--audit-log-maxsize=1000000",
            f"--cert-dir={self._tls}",
        )

    def _node_flags(self) -> list[str]:
        if not self.addresses.node:
            # The API refuses endpoints on loopback.
            return ["--endpoint-reconciler-type=none"]
        certificate, key = self._tls / "apiserver-client.crt", self._tls / "apiserver-client.key"
        return [
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={self._tls / 'ca.crt'}",
            f"--kubelet-client-certificate={certificate}",
            f"--kubelet-client-key={key}",
            # For API servers behind an APIService, such as metrics-server.
            f"--requestheader-client-ca-file={self._tls / 'ca.crt'}",
            f"--requestheader-allowed-names={FRONT_PROXY}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={certificate}",
            f"--proxy-client-key-file={key}",
            "--enable-aggregator-routing=true",
        ]

    def _start_controller_manager(self) -> Component:
        kubeconfig = self.write_user(
            self.folder / "controller-manager.kubeconfig", "system:kube-controller-manager", (ADMIN_GROUP,)
        )
        return self._launch(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self._tls / 'controller-manager'}",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            f"--root-ca-file={self._tls / 'ca.crt'}",
            f"--service-account-private-key-file={self._tls / 'service-account.key'}",
            f"--cluster-signing-cert-file={self._tls / 'ca.crt'}",
            f"--cluster-signing-key-file={self._tls / 'ca.key'}",
        )

    def _http_ok(self, url: str) -> bool:
        context = self._client if url.startswith("https") else None
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "rstar-testbed"})
            with urllib.request.urlopen(request, context=context, timeout=2) as answer:
                return bool(answer.status == http.HTTPStatus.OK)
        except OSError:
            return False
