"""The stock training-operator, outside a pod, without its webhook.

It generates its certificates into a Secret, and starts no controller before they are in the Secret and in the folder where a
pod would mount that Secret. Here the certificates are written to both places first, so that it starts at once. It checks that
``tls.crt`` exists in a fixed folder below /tmp, whatever TMPDIR is; the files that it serves with are in the testbed's folder.
"""

from __future__ import annotations

import base64
import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from rstar_testbed.certificates import issue, new_authority
from rstar_testbed.control_plane import ADMIN_GROUP, ControlPlane
from rstar_testbed.modules import pytorchjob_crd
from rstar_testbed.processes import Component, free_port

_NAMESPACE: Final = "kubeflow"
_AUTHORITY: Final = "training-operator-ca"
_HOST: Final = f"training-operator.{_NAMESPACE}.svc"
_EXPECTED_FOLDER: Final = Path("/tmp/k8s-webhook-server/serving-certs")
_SECONDS: Final = 120.0


def start_training_operator(plane: ControlPlane, binaries: Mapping[str, Path]) -> Component:
    """Install the CRD of PyTorchJob, start the operator, and return when its workers run."""
    binary = binaries["training-operator"]
    subprocess.run(
        [binaries["kubectl"], f"--kubeconfig={plane.kubeconfig}", "create", "--filename", pytorchjob_crd()],
        check=True,
        capture_output=True,
    )
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
    folder = plane.folder / "training-operator"
    _write_certificates(plane, folder)
    kubeconfig = plane.write_user(plane.folder / "training-operator.kubeconfig", "training-operator", (ADMIN_GROUP,))
    health = free_port()
    component = Component(
        "training-operator",
        [
            binary,
            f"--kubeconfig={kubeconfig}",
            "--enable-scheme=pytorchjob",
            "--leader-elect=false",
            f"--webhook-server-port={free_port()}",
            f"--metrics-bind-address=127.0.0.1:{free_port()}",
            f"--health-probe-bind-address=127.0.0.1:{health}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            # With one thread, the default, many rounds at once wait for the answers to its requests.
            "--controller-threads=8",
        ],
        plane.folder / "logs/training-operator.log",
        {"TMPDIR": str(folder)},
    )
    component.wait_until(lambda: _is_working(component.log), _SECONDS)
    return component


def _is_working(log: Path) -> bool:
    """Return whether the controller works, from its log: the readiness endpoint answers too early."""
    return any(
        "Starting workers" in line and "pytorchjob" in line for line in log.read_text(errors="replace").splitlines()
    )


def _write_certificates(plane: ControlPlane, folder: Path) -> None:
    # RSA, because the operator reads its authority's key as PKCS 1.
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
    authority = new_authority(_AUTHORITY, keys[0], hosts=(_AUTHORITY,))
    server = issue(authority, _HOST, hosts=(_HOST,), key=keys[1])
    files = {
        "tls.crt": server.certificate_pem,
        "tls.key": server.key_pem,
        "ca.crt": authority.certificate_pem,
        "ca.key": authority.key_pem,
    }
    served = folder / "k8s-webhook-server/serving-certs"
    served.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (served / name).write_bytes(content)
    _EXPECTED_FOLDER.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (_EXPECTED_FOLDER / "tls.crt").touch(exist_ok=False)
    secret = {
        "metadata": {"name": "training-operator-webhook-cert"},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    plane.request("POST", f"/api/v1/namespaces/{_NAMESPACE}/secrets", secret)
