"""The certificate in the pods of a round that call services or serve: a Secret of the tenant's namespace, as files.

The operator only names the Secret. It cannot read Secrets, so the key is known to the tenant's pods alone.
"""

from __future__ import annotations

from typing import Any, Final

from rstar.cluster.api import Json
from rstar.rpc.tls import CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE

FOLDER: Final = "/etc/rstar-tls"

_GROUP_READS: Final = 0o440
"""Kubernetes' default would let every user of the container read the key."""


def variables() -> list[Json]:
    """Return the variables that name the files of the certificate."""
    files = {CERT_VARIABLE: "tls.crt", KEY_VARIABLE: "tls.key", CA_VARIABLE: "ca.crt"}
    return [{"name": variable, "value": f"{FOLDER}/{file}"} for variable, file in files.items()]


def volume(secret: str) -> Json:
    """Return the volume. The whole folder is mounted, because kubelet does not renew single files."""
    source: dict[str, Any] = {"secretName": secret, "defaultMode": _GROUP_READS}
    return {"name": "tls", "secret": source}


def mount() -> Json:
    """Return where a container has the volume."""
    return {"name": "tls", "mountPath": FOLDER, "readOnly": True}
