"""An S3 bucket (MinIO or another server) as the store of a cluster run.

Covered: atomic writes, because put_object is atomic on the server and a file uploaded in parts appears when it is
complete; users whose rights end at the prefix; digests without a download, because every object carries its sha256
as metadata. Not covered: versions, locks and expiry, which are settings of the bucket (so is the removal of the parts
of a killed upload); a client that replaces an object and keeps the sha256 of the old one. A request is retried a few
times, but not when its response was cut off.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
from minio import Minio
from minio.datatypes import Object
from minio.error import MinioException, S3Error
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from rstar.store.atomic import atomic_write
from rstar.store.digests import file_digest
from rstar.store.s3_access import endpoint_of, keys_of
from rstar.store.store import StoreError, check_key

_MISSING: Final = {"NoSuchKey", "NoSuchObject", "ResourceNotFound"}
_DENIED: Final = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_EXISTS: Final = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT}
_BLOCK: Final = 1 << 20
_SHA256: Final = "sha256"
"""Name of the object's metadata: the header ``x-amz-meta-sha256``. S3's own checksum of an object in parts is another."""

# A server that restarts is waited for up to 15 s; one that does not answer at all is an error after 75 s. Completing
# a large object may take a server minutes. MinIO sends Retry-After: 60 while it starts, which takes two seconds.
_TIMEOUT: Final = Timeout(connect=10, read=120)
_RETRIES: Final = Retry(
    total=5, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504), respect_retry_after_header=False
)


class S3Store:
    """Objects are ``s3://bucket/prefix/<key>``."""

    def __init__(self, client: Minio, http: PoolManager, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._http = http
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")

    @classmethod
    def from_environment(cls, uri: str, environment: Mapping[str, str] = os.environ) -> S3Store:
        """Open ``s3://bucket/prefix`` with the address and the keys of the environment (``rstar.store.s3_access``).

        AWS_REGION (else us-east-1) is used where set, and SSL_CERT_FILE for a server whose certificate is from a private
        authority. Raises ``ValueError`` when the settings are wrong and ``StoreError``
        when the bucket cannot be reached.
        """
        parts = urlsplit(uri)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"{uri!r} is not s3://BUCKET/PREFIX")
        server, keys = endpoint_of(uri, environment), keys_of(uri, environment)
        http = PoolManager(
            timeout=_TIMEOUT,
            maxsize=10,
            cert_reqs="CERT_REQUIRED",
            ca_certs=environment.get("SSL_CERT_FILE") or certifi.where(),
            retries=_RETRIES,
        )
        client = Minio(
            server.netloc,
            credentials=keys,
            secure=server.scheme == "https",
            # Without a region the client would request the bucket's, for which a user of one prefix has no right.
            region=environment.get("AWS_REGION") or "us-east-1",
            http_client=http,
        )
        store = cls(client, http, parts.netloc, parts.path)
        store._check_bucket(server.geturl())
        return store

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        try:
            self._stat(key)
        except KeyError:
            return False
        return True

    def digest(self, key: str) -> str:
        """Return the sha256 of the object, in hex. Raises ``KeyError`` when it is not there.

        One request without the object's bytes, unless another client stored it without the metadata.
        """
        kept = (self._stat(key).metadata or {}).get(f"x-amz-meta-{_SHA256}", "")
        if re.fullmatch("[0-9a-f]{64}", kept):
            return kept
        computed = hashlib.sha256()
        self._get(key, computed.update)
        return computed.hexdigest()

    def read(self, key: str) -> bytes:
        """Return the object. Raises ``KeyError`` when it is not there."""
        target = io.BytesIO()
        self._get(key, target.write)
        return target.getvalue()

    def write(self, key: str, data: bytes) -> None:
        """Store the object atomically. Raises ``StoreError`` when the server refuses or cannot be reached."""
        metadata = _metadata(hashlib.sha256(data).hexdigest())
        try:
            self._client.put_object(self._bucket, self._name(key), io.BytesIO(data), len(data), metadata=metadata)
        except (MinioException, HTTPError) as error:
            raise self._failed("write", key, error) from error

    def create(self, key: str, data: bytes) -> bool:
        """Store the object atomically unless there is one; return whether it was stored.

        A server without conditional writes replaces the object.
        """
        try:
            # The client has no option for the condition.
            url = self._client.get_presigned_url("PUT", self._bucket, self._name(key), timedelta(minutes=10))
            response = self._http.request("PUT", url, body=data, headers={"If-None-Match": "*"})
        except (MinioException, HTTPError) as error:
            raise self._failed("write", key, error) from error
        if response.status in _EXISTS:
            return False
        if response.status == HTTPStatus.NOT_IMPLEMENTED:
            self.write(key, data)
        elif response.status != HTTPStatus.OK:
            raise StoreError(f"cannot write {key} in {self.uri}: status {response.status}, {response.data[:300]!r}")
        return True

    def upload(self, key: str, path: Path, digest: str | None = None) -> None:
        """Store a local file atomically. Raises ``StoreError`` when the server refuses or cannot be reached."""
        metadata = _metadata(digest or file_digest(path))
        try:
            self._client.fput_object(self._bucket, self._name(key), str(path), metadata=metadata)
        except (MinioException, HTTPError) as error:
            raise self._failed("write", key, error) from error

    def download(self, key: str, path: Path) -> None:
        """Copy the object to a local file, atomically. Raises ``KeyError`` when it is not there."""
        with atomic_write(path) as file:
            self._get(key, file.write)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``, sorted."""
        try:
            found = self._client.list_objects(self._bucket, prefix=self._prefix + prefix, recursive=True)
            names = [item.object_name or "" for item in found]
        except (MinioException, HTTPError) as error:
            raise self._failed("list", prefix, error) from error
        yield from sorted(name.removeprefix(self._prefix) for name in names)

    def delete(self, key: str) -> None:
        """Remove the object. Does nothing when it is not there."""
        try:
            self._client.remove_object(self._bucket, self._name(key))
        except (MinioException, HTTPError) as error:
            raise self._failed("delete", key, error) from error

    def _stat(self, key: str) -> Object:
        try:
            return self._client.stat_object(self._bucket, self._name(key))
        except (MinioException, HTTPError) as error:
            raise self._missing_or_failed("look at", key, error) from error

    def _get(self, key: str, write: Callable[[bytes], object]) -> None:
        try:
            response: Any = self._client.get_object(self._bucket, self._name(key))
            with contextlib.closing(response):
                for block in response.stream(_BLOCK):
                    write(block)
            response.release_conn()
        except (MinioException, HTTPError) as error:
            raise self._missing_or_failed("read", key, error) from error

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _check_bucket(self, endpoint: str) -> None:
        """List below the prefix: the rights of a user may end there, so that "does the bucket exist" is refused."""
        try:
            next(self._client.list_objects(self._bucket, prefix=self._prefix), None)
        except (MinioException, HTTPError) as error:
            if isinstance(error, S3Error) and error.code == "NoSuchBucket":
                raise StoreError(f"bucket {self._bucket} does not exist at {endpoint}: create it first") from None
            if isinstance(error, S3Error) and error.code in _DENIED:
                raise StoreError(
                    f"the object store at {endpoint} does not let this user into {self.uri} ({error.code}): check "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the IAM role, and which bucket and prefix they are for"
                ) from None
            raise StoreError(f"cannot reach the object store at {endpoint}: {_reason(error)}") from error

    def _missing_or_failed(self, what: str, key: str, error: Exception) -> KeyError | StoreError:
        if isinstance(error, S3Error) and error.code in _MISSING:
            return KeyError(key)
        return self._failed(what, key, error)

    def _failed(self, what: str, key: str, error: Exception) -> StoreError:
        return StoreError(f"cannot {what} {key} in {self.uri}: {_reason(error)}")


def _metadata(digest: str) -> dict[str, str | list[str] | tuple[str]]:
    return {_SHA256: digest}


def _reason(error: Exception) -> str:
    return f"{error.code}: {error.message}" if isinstance(error, S3Error) else " ".join(str(error).split())
