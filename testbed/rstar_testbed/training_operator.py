"""The stock training-operator, outside a pod, without its webhook.

It makes its own certificates in a Secret and starts no controller before they are both in the Secret and in a folder
where a pod would have that Secret mounted. So here the certificates come first, in both places, and it starts at once. The
existence of ``tls.crt`` is looked for in a fixed folder under /tmp, whatever TMPDIR says; the files it really serves with
lie in the testbed's own folder.
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
_LOOKED_FOR: Final = Path("/tmp/k8s-webhook-server/serving-certs")
_SECONDS: Final = 120.0


def start_training_operator(plane: ControlPlane, binaries: Mapping[str, Path]) -> Component:
    """Install the CRD of PyTorchJob, start the operator, return when its workers run."""
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
            # One thread, the default, keeps many rounds at once waiting for the answers to its requests.
            "--controller-threads=8",
        ],
        plane.folder / "logs/training-operator.log",
        {"TMPDIR": str(folder)},
    )
    component.wait_until(lambda: _works(component.log), _SECONDS)
    return component


def _works(log: Path) -> bool:
    """Whether the controller has taken up its work; the readiness endpoint says so too early."""
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
    _LOOKED_FOR.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (_LOOKED_FOR / "tls.crt").touch(exist_ok=False)
    secret = {
        "metadata": {"name": "training-operator-webhook-cert"},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    plane.request("POST", f"/api/v1/namespaces/{_NAMESPACE}/secrets", secret)
