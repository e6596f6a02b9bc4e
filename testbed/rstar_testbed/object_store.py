"""The testbed's MinIO: one server on a folder, and the settings of a client that is its root user."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import minio
from minio.credentials.providers import StaticProvider

from rstar_testbed.processes import Component, answers, free_port

_SECONDS: Final = 60.0
_REGION: Final = "us-east-1"


class Minio:
    """A running MinIO. ``endpoint`` is a URL; the keys are its root user's."""

    def __init__(self, folder: Path, binary: Path, address: str = "127.0.0.1") -> None:
        self._port = free_port()
        self.endpoint = f"http://{address}:{self._port}"
        self.access_key = "rstar-testbed"
        self.secret_key = uuid.uuid4().hex
        self._component = Component(
            "minio",
            [
                binary, "server", "--quiet", "--anonymous",
                "--address", f"{address}:{self._port}", "--console-address", f"127.0.0.1:{free_port()}",
                folder / "minio",
            ],
            folder / "logs/minio.log",
            {
                "MINIO_ROOT_USER": self.access_key,
                "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off",
                # No look-ups of newer versions or of other servers.
                "MINIO_UPDATE": "off",
                "MINIO_CALLHOME_ENABLE": "off",
                "MINIO_REGION": _REGION,
            },
        )  # fmt: skip

    def wait(self) -> None:
        """Return when it answers requests."""
        # Before this it answers 503 with Retry-After: 60, and its own client waits that long.
        self._component.wait_until(lambda: answers(f"{self.endpoint}/minio/health/cluster"), _SECONDS)

    def stop(self) -> None:
        """Kill it."""
        self._component.stop()

    def restart(self, while_down: Callable[[], None] = lambda: None) -> None:
        """Kill it, call ``while_down``, start it with the same data and address, and return when it answers."""
        self.stop()
        while_down()
        self._component.start()
        self.wait()

    def client(self) -> minio.Minio:
        """Return a client of the root user."""
        return minio.Minio(
            self.endpoint.removeprefix("http://"),
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region=_REGION,
        )

    def admin(self) -> minio.MinioAdmin:
        """Return a client for users and policies, as the root user."""
        return minio.MinioAdmin(
            endpoint=self.endpoint.removeprefix("http://"),
            credentials=StaticProvider(self.access_key, self.secret_key),
            secure=False,
            region=_REGION,
        )

    def environment(self, store: str) -> Mapping[str, str]:
        """Return the environment of a program that uses ``store`` (``s3://BUCKET/PREFIX``); a storage Secret has the same keys."""
        return {
            "RSTAR_STORE": store,
            "RSTAR_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": _REGION,
        }
