"""Faults that show only when a model is served or trained: each must be in the round's condition, with its remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rstar_testbed.cluster import Testbed

from tests.e2e.conftest import UseImages
from tests.support.cluster import tiny_rounds
from tests.support.cluster.lab import IMAGES, SMALL, Tenant, fill_store, lab
from tests.support.cluster.releases import secret
from tests.support.cluster.rounds import message_with

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tenant(testbed: Testbed, use_images: UseImages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """A tenant with executors, a base model and games."""
    here: Path = tmp_path_factory.mktemp("troubles")
    tiny_rounds.make_games(here)
    base_model = tiny_rounds.start_base_model(here)
    try:
        images = use_images(*IMAGES)
        assert base_model.wait() == 0
        with lab(testbed, images) as made:
            tenant = made.add_tenant()
            made.install_executors(tenant)
            fill_store(tenant, here, ("models/base", "data/train.jsonl"))
            yield tenant
    finally:
        base_model.kill()


def apply(tenant: Tenant, name: str, **cluster: Any) -> None:
    """Apply the first tiny round without an evaluation, with one attempt per stage."""
    [body] = tiny_rounds.tiny_rounds(1)
    body["metadata"]["name"] = name
    body["spec"] |= {"cluster": {"resources": SMALL} | cluster, "lifecycle": {"maxAttempts": 1}}
    del body["spec"]["evaluate"]
    tenant.kubectl("apply", "-f", "-", input=yaml.safe_dump(body))


def store_secret(tenant: Tenant, name: str, **changed: str) -> None:
    """Create the Secret of a store that differs from the tenant's."""
    data = secret(tenant.bed, "rstar-storage", tenant.namespace) | changed
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
    tenant.bed.kubectl("apply", "-n", tenant.namespace, "-f", "-", input=json.dumps(body))


def test_a_bucket_that_does_not_exist_or_is_another_tenants(tenant: Tenant) -> None:
    store_secret(tenant, "wrong-bucket", RSTAR_STORE="s3://no-such-bucket/lab")
    apply(tenant, "wrong-bucket", storageSecret="wrong-bucket")
    message = message_with(tenant.bed, tenant.namespace, "wrong-bucket", "policy", "no-such-bucket")
    assert message in tenant.kubectl("describe", "er", "wrong-bucket")
    tenant.kubectl("delete", "er", "wrong-bucket")


def test_a_storage_host_that_does_not_exist(tenant: Tenant) -> None:
    store_secret(tenant, "wrong-host", RSTAR_S3_ENDPOINT="http://no-such-host:9000")
    apply(tenant, "wrong-host", storageSecret="wrong-host")
    message_with(tenant.bed, tenant.namespace, "wrong-host", "policy", "no-such-host")
    tenant.kubectl("delete", "er", "wrong-host")


def test_training_that_runs_out_of_memory_says_which_memory_to_raise(tenant: Tenant) -> None:
    apply(tenant, "no-memory", resources=SMALL | {"trainPolicy": {"cpu": "900m", "memory": "150Mi"}})
    message = message_with(
        tenant.bed, tenant.namespace, "no-memory", "train-policy", "out of memory", "137", seconds=900
    )
    assert "raise memory in spec.cluster.resources" in message
    tenant.kubectl("delete", "er", "no-memory")
