"""The API keys of the HTTP server: a file with one ``TENANT:KEY`` per line, and the tenant of a request.

A key comes as ``Authorization: Bearer KEY``, or as the password of the URL (``http://any:KEY@host/run_code``), because many
clients let their users set nothing but a URL.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from pathlib import Path


def read_keys(path: Path) -> dict[str, bytes]:
    """Return the key of each tenant in a file. Raises ``ValueError`` and ``OSError``, with one sentence."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; write one TENANT:KEY per line") from None
    keys: dict[str, bytes] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        tenant, colon, key = line.partition(":")
        if not (tenant and colon and key) or tenant in keys:
            raise ValueError(f"{path}, line {number}: write TENANT:KEY, each tenant once")
        keys[tenant] = key.encode()
    if not keys:
        raise ValueError(f"{path} has no key; write one TENANT:KEY per line")
    return keys


def tenant_of(authorization: str, keys: Mapping[str, bytes]) -> str | None:
    """Return the tenant whose key an ``Authorization`` header has; None when no tenant's."""
    scheme, _, value = authorization.strip().partition(" ")
    given = value.strip().encode("utf-8", "replace")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    elif scheme.lower() != "bearer":
        return None
    # Every key is compared, so that the time tells nothing about them.
    found = [tenant for tenant, key in keys.items() if hmac.compare_digest(given, key)]
    return found[0] if found else None
