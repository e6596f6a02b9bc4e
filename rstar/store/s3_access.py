"""The address of an object store and the keys to it, from the environment.

Keys are those of the environment, else of the shared credentials file (AWS_PROFILE), else of an IAM role: of a Kubernetes
ServiceAccount (AWS_WEB_IDENTITY_TOKEN_FILE), of a container or of the machine. All providers are minio's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from minio.credentials.providers import AWSConfigProvider, ChainedProvider, IamAwsProvider, Provider, StaticProvider
from urllib3 import PoolManager, Retry, Timeout

ENDPOINTS: Final = ("RSTAR_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""The variables with the address, the first that is set counts; the last two are those of other S3 clients."""

_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

# A machine without roles does not answer at the address of the metadata.
_ROLE_TIMEOUT: Final = Timeout(connect=2, read=10)


def endpoint_of(uri: str, environment: Mapping[str, str]) -> SplitResult:
    """Return the address of the server of the store ``uri``. Raises ``ValueError`` with one sentence."""
    name = next((name for name in ENDPOINTS if environment.get(name)), ENDPOINTS[0])
    given = environment.get(name, "")
    server = urlsplit(given)
    if server.scheme not in {"http", "https"} or not server.netloc or server.path.strip("/"):
        others = f" (or {' or '.join(ENDPOINTS[1:])})" if name == ENDPOINTS[0] else ""
        raise ValueError(f"{uri} needs {name}=http(s)://HOST:PORT{others} in the environment, not {given!r}")
    return server


def keys_of(uri: str, environment: Mapping[str, str]) -> Provider:
    """Return the provider of the keys to the store ``uri``. Raises ``ValueError`` with one sentence when there are none."""
    key, secret = (environment.get(name) for name in _KEYS)
    if key and secret:
        return StaticProvider(key, secret, environment.get("AWS_SESSION_TOKEN") or None)
    if key or secret:
        given, missing = _KEYS if key else reversed(_KEYS)
        raise ValueError(f"{uri} needs {missing} in the environment, where {given} is")
    # The providers read the environment of this process, also where the store's settings are from elsewhere.
    http = PoolManager(timeout=_ROLE_TIMEOUT, retries=Retry(total=1, backoff_factor=0.2))
    role = IamAwsProvider(custom_endpoint=os.environ.get("AWS_ENDPOINT_URL_STS"), http_client=http)
    chain = ChainedProvider([AWSConfigProvider(), role])
    try:
        chain.retrieve()
    except Exception as error:  # each provider has errors of its own
        raise ValueError(
            f"{uri} needs {' and '.join(_KEYS)} in the environment, a profile in the shared credentials file, or an IAM role; "
            "none was found"
        ) from error
    return chain
