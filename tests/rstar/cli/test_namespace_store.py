"""The store of a namespace: the one that its Secret names, on a real S3 server; the cluster's answers are scripted."""

from __future__ import annotations

import base64
import uuid
from typing import Any, cast

import pytest
from minio import Minio

from rstar.cluster.api import Cluster
from rstar.locations.errors import RoundsError
from rstar.locations.namespace_location import NamespaceLocation


class _Answers:
    """Answers of an API server with rounds and one Secret."""

    def __init__(self, secrets: list[str], data: dict[str, str] | None) -> None:
        self._secrets, self._data = secrets, data

    def list(self, *_: Any) -> list[dict[str, Any]]:
        return [
            {"metadata": {"name": f"r{number}"}, "spec": {"round": number, "cluster": {"storageSecret": secret}}}
            for number, secret in enumerate(self._secrets, 1)
        ]

    def get(self, kind: Any, namespace: str, name: str) -> dict[str, Any] | None:
        if self._data is None:
            return None
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in self._data.items()}}


def location(secrets: list[str], data: dict[str, str] | None) -> NamespaceLocation:
    return NamespaceLocation(cast(Cluster, _Answers(secrets, data)), "lab", "-n lab", None)


def test_the_store_is_the_one_that_the_rounds_secret_names(
    s3: dict[str, str], client: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"b{uuid.uuid4().hex}"
    client.make_bucket(bucket)
    monkeypatch.setenv("RSTAR_S3_ENDPOINT", s3["RSTAR_S3_ENDPOINT"])
    keys = {key: value for key, value in s3.items() if key != "RSTAR_S3_ENDPOINT"}
    inside = {**keys, "RSTAR_STORE": f"s3://{bucket}/lab", "RSTAR_S3_ENDPOINT": "http://minio.store:9000"}
    assert location(["lab-store", "lab-store"], inside).store().uri == f"s3://{bucket}/lab"


def test_rounds_in_several_stores_are_bad_input() -> None:
    with pytest.raises(RoundsError, match="Secrets a, b"):
        location(["a", "b"], {}).store()


def test_a_secret_that_cannot_be_read_names_the_way_around_it() -> None:
    with pytest.raises(RoundsError, match="s3://BUCKET/PREFIX"):
        location(["lab-store"], None).store()
