"""Kubeconfig files with embedded certificates and tokens, so that one file can be copied or mounted."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from rstar_testbed.certificates import KeyPair


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def client_certificate(pair: KeyPair) -> dict[str, Any]:
    """Return the ``user`` entry for a certificate."""
    return {"client-certificate-data": _base64(pair.certificate_pem), "client-key-data": _base64(pair.key_pem)}


def write_kubeconfig(
    path: Path, server: str, authority_pem: bytes, name: str, user: dict[str, Any], namespace: str = "default"
) -> Path:
    """Write a kubeconfig of one cluster and one user."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "testbed", "cluster": {"server": server, "certificate-authority-data": _base64(authority_pem)}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": name, "namespace": namespace}}],
        "current-context": "testbed",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    path.chmod(0o600)
    return path
