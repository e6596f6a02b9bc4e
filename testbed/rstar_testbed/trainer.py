"""The stock trainer of Kubeflow (TrainJob) and the JobSet controller that it needs, outside pods, with their webhooks.

Their own management of certificates is off: it waits for a Secret that is mounted into a pod. Each serves its webhooks on
loopback with a certificate of the testbed's authority; the webhook configurations hold that address. The configurations have
no webhooks of pods, which place the pods of JobSets that ask for a node, rack or zone of their own.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from rstar_testbed.certificates import issue
from rstar_testbed.control_plane import ADMIN_GROUP, ControlPlane
from rstar_testbed.errors import TestbedError
from rstar_testbed.modules import JOBSET, TRAINER, jobset_crds, required_folder, trainjob_crds
from rstar_testbed.processes import Component, answers, free_port

_HOST: Final = "127.0.0.1"
_SECONDS: Final = 120.0


def start_trainer(plane: ControlPlane, binaries: Mapping[str, Path]) -> list[Component]:
    """Install both programs' CRDs and webhooks, start them, and return when their workers run."""
    crds = (*jobset_crds(), *trainjob_crds())
    _kubectl(plane, binaries, "apply", "--server-side", *(f"--filename={path}" for path in crds))
    _kubectl(plane, binaries, "wait", "--for=condition=Established", *(f"--filename={path}" for path in crds))
    jobset = _start(
        plane,
        binaries,
        "jobset",
        required_folder(JOBSET) / "config/components/webhook/manifests.yaml",
        lambda port, folder: {
            "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
            "webhook": {"host": _HOST, "port": port, "certDir": str(folder)},
            "internalCertManagement": {"enable": False},
        },
        "jobset",
    )
    # The trainer looks for the kind JobSet once, at its start.
    trainer = _start(
        plane,
        binaries,
        "trainer",
        required_folder(TRAINER) / "manifests/base/webhook/manifests.yaml",
        lambda port, _: {
            "apiVersion": "config.trainer.kubeflow.org/v1alpha1",
            "webhook": {"host": _HOST, "port": port},
            "certManagement": {"enable": False},
        },
        "trainjob_controller",
    )
    return [jobset, trainer]


def _start(
    plane: ControlPlane,
    binaries: Mapping[str, Path],
    name: str,
    webhooks: Path,
    own_settings: Callable[[int, Path], dict[str, Any]],
    controller: str,
) -> Component:
    """Start a program. ``own_settings``: those of its webhook's port and of the folder with its certificate."""
    # Without a setting of its own, a program looks for its certificate in this folder below TMPDIR.
    folder = plane.folder / name
    certificates = folder / "k8s-webhook-server/serving-certs"
    certificates.mkdir(parents=True, exist_ok=True)
    server = issue(plane.authority, name, hosts=(_HOST,))
    (certificates / "tls.crt").write_bytes(server.certificate_pem)
    (certificates / "tls.key").write_bytes(server.key_pem)
    port, health = free_port(), f"{_HOST}:{free_port()}"
    settings = {
        "kind": "Configuration",
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": health},
        "leaderElection": {"leaderElect": False},
        **own_settings(port, certificates),
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    kubeconfig = plane.write_user(plane.folder / f"{name}.kubeconfig", name, (ADMIN_GROUP,))
    component = Component(
        name,
        [binaries[name], f"--kubeconfig={kubeconfig}", f"--config={config}"],
        plane.folder / f"logs/{name}.log",
        {"TMPDIR": str(folder)},
    )
    try:
        component.wait_until(
            lambda: _is_working(component.log, controller) and answers(f"http://{health}/readyz"), _SECONDS
        )
        bodies = _webhooks(webhooks, f"https://{_HOST}:{port}", plane.authority.certificate_pem, name)
        _kubectl(
            plane,
            binaries,
            "apply",
            "--filename=-",
            input=json.dumps({"kind": "List", "apiVersion": "v1", "items": bodies}),
        )
    except BaseException:
        component.stop()
        raise
    return component


def _is_working(log: Path, controller: str) -> bool:
    """Return whether the controller works, from its log: the readiness endpoint answers before."""
    lines = log.read_text(errors="replace").splitlines()
    return any("Starting workers" in line and f'"{controller}"' in line for line in lines)


def _webhooks(manifests: Path, server: str, authority_pem: bytes, name: str) -> list[dict[str, Any]]:
    """Return the program's webhook configurations, with the address of its server in place of a Service."""
    authority = base64.b64encode(authority_pem).decode()
    bodies = [body for body in yaml.safe_load_all(manifests.read_text()) if body]
    for body in bodies:
        body["metadata"]["name"] = f"{name}-{body['kind'].removesuffix('WebhookConfiguration').lower()}"
        body["webhooks"] = [hook for hook in body["webhooks"] if hook["rules"][0]["resources"] != ["pods"]]
        for hook in body["webhooks"]:
            path = hook["clientConfig"]["service"]["path"]
            hook["clientConfig"] = {"url": server + path, "caBundle": authority}
    return bodies


def _kubectl(plane: ControlPlane, binaries: Mapping[str, Path], *words: str, input: str | None = None) -> None:
    command: Sequence[str | Path] = [binaries["kubectl"], f"--kubeconfig={plane.kubeconfig}", *words]
    done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(f"The trainer cannot be installed: kubectl {words[0]} failed: {done.stderr.strip()}")
