"""The store on a real MinIO: the contract of every store, multipart uploads, killed clients, a killed server, tenants."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rstar_jobs.delete_artifacts import delete_artifacts
from rstar_testbed.cluster import Testbed
from rstar_testbed.object_store import Minio

from rstar.store.s3_store import S3Store
from rstar.store.store import Store, StoreError
from tests.rstar.store.test_stores import (  # noqa: F401 - collected here, with the fixture store below
    test_a_missing_object_does_not_exist_and_is_a_key_error,
    test_a_second_write_replaces_the_first,
    test_delete_removes_an_object_and_the_folders_that_are_empty_without_it,
    test_keys_that_leave_the_store_or_differ_between_stores_are_refused,
    test_list_gives_the_keys_of_a_prefix_in_order,
    test_the_digest_is_the_sha256_of_the_object,
    test_written_and_uploaded_objects_are_read_back,
)
from tests.support.jobs.stage_workspace import StageWorkspace
from tests.support.paths import CHARTS

SPAWN = multiprocessing.get_context("spawn")
MIB = 1 << 20


def tenant_policy(bucket: str, namespace: str) -> dict[str, Any]:
    """Return the policy of the chart ``rstar-tenant`` for the user of a namespace."""
    text = (CHARTS / "rstar-tenant/files/tenant-policy.json").read_text()
    text = text.replace("{{ .Values.storage.bucket }}", bucket)
    policy: dict[str, Any] = json.loads(text.replace('{{ include "rstar-tenant.namespace" . }}', namespace))
    return policy


@pytest.fixture
def minio(testbed: Testbed) -> Minio:
    assert testbed.minio is not None
    return testbed.minio


@pytest.fixture
def bucket(minio: Minio) -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    minio.client().make_bucket(name)
    return name


Tenant = Callable[[str], dict[str, str]]


@pytest.fixture
def tenant(minio: Minio, bucket: str) -> Iterator[Tenant]:
    """Create a user of ``BUCKET/NAMESPACE/*``, and return its environment as in the storage Secret."""
    admin, made = minio.admin(), list[str]()

    def make(namespace: str) -> dict[str, str]:
        name = f"{namespace}-{uuid.uuid4().hex[:8]}"
        admin.user_add(name, "a-secret-of-" + name)
        admin.policy_add(name, policy=tenant_policy(bucket, namespace))
        admin.attach_policy([name], user=name)
        made.append(name)
        return {
            "RSTAR_STORE": f"s3://{bucket}/{namespace}",
            "RSTAR_S3_ENDPOINT": minio.endpoint,
            "AWS_ACCESS_KEY_ID": name,
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-" + name,
        }

    yield make
    for name in made:
        admin.user_remove(name)
        admin.policy_remove(name)


def opened(environment: dict[str, str], uri: str = "") -> S3Store:
    return S3Store.from_environment(uri or environment["RSTAR_STORE"], environment)


@pytest.fixture
def store(tenant: Tenant) -> Store:
    """The store of a tenant without access to any other."""
    return opened(tenant("ns-a"))


def random_file(path: Path, size: int) -> str:
    """Write incompressible bytes to a file, and return their sha256."""
    data = os.urandom(MIB) * (size // MIB)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_a_large_file_is_uploaded_in_parts_and_downloaded_whole(
    minio: Minio, bucket: str, tenant: Tenant, tmp_path: Path
) -> None:
    store = opened(tenant("ns-a"))
    digest = random_file(tmp_path / "model", 96 * MIB)
    store.upload("models/big", tmp_path / "model")
    etag = minio.client().stat_object(bucket, "ns-a/models/big").etag or ""
    assert int(etag.partition("-")[2]) > 1
    store.download("models/big", tmp_path / "copy")
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == digest


def _upload(environment: dict[str, str], path: str) -> None:
    opened(environment).upload("models/big", Path(path))


def test_a_killed_upload_leaves_the_old_object_or_none(testbed: Testbed, tenant: Tenant, tmp_path: Path) -> None:
    environment = tenant("ns-a")
    store = opened(environment)
    parts = testbed.folder / "minio" / ".minio.sys" / "multipart"
    big = tmp_path / "model"
    with big.open("wb") as file:
        file.truncate(4096 * MIB)
    for old in (None, b"old"):
        if old is not None:
            store.write("models/big", old)
        before = set(parts.glob("*/*"))
        client = SPAWN.Process(target=_upload, args=(environment, str(big)))
        client.start()
        while set(parts.glob("*/*")) <= before:
            assert client.is_alive()
            time.sleep(0.01)
        client.kill()
        client.join()
        assert store.exists("models/big") == (old is not None)
        assert old is None or store.read("models/big") == old
    random_file(big, 16 * MIB)
    store.upload("models/big", big)
    store.download("models/big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()


@pytest.fixture
def own_minio(testbed: Testbed, tmp_path: Path) -> Iterator[Minio]:
    """A MinIO of the test's own, to be killed."""
    (tmp_path / "logs").mkdir()
    server = Minio(tmp_path, testbed.binaries["minio"])
    server.wait()
    yield server
    server.stop()


def test_a_killed_server_is_reported_in_one_sentence_and_leaves_no_partial_file(
    own_minio: Minio, tmp_path: Path
) -> None:
    environment = dict(own_minio.environment("s3://bucket/lab"))
    own_minio.client().make_bucket("bucket")
    store = opened(environment)
    random_file(tmp_path / "model", 512 * MIB)
    store.upload("model", tmp_path / "model")
    errors: list[Exception] = []

    def download() -> None:
        try:
            store.download("model", tmp_path / "cache" / "model")
        except StoreError as error:
            errors.append(error)

    thread = threading.Thread(target=download)
    thread.start()
    while not any(path.stat().st_size for path in (tmp_path / "cache").glob(".tmp-*")):
        assert thread.is_alive()
        time.sleep(0.01)
    own_minio.stop()
    thread.join()
    assert "cannot read model in s3://bucket/lab: " in str(errors[0])
    assert list((tmp_path / "cache").iterdir()) == []
    with ThreadPoolExecutor() as pool:
        uses = [lambda: store.write("k", b"v"), lambda: list(store.list("")), lambda: opened(environment)]
        for tried in [pool.submit(use) for use in uses]:
            error = tried.exception()
            assert isinstance(error, StoreError)
            assert "\n" not in str(error)


def test_a_tenant_can_neither_read_nor_change_another_tenants_objects(
    bucket: str, tenant: Tenant, tmp_path: Path
) -> None:
    a, b = tenant("ns-a"), tenant("ns-b")
    opened(b).write("models/base", b"theirs")
    with pytest.raises(StoreError, match=f"does not let this user into s3://{bucket}/ns-b"):
        opened(a, f"s3://{bucket}/ns-b")
    with pytest.raises(StoreError, match="does not let this user into"):
        opened(a, f"s3://{bucket}")
    theirs = S3Store(opened(a)._client, opened(a)._http, bucket, "ns-b")
    uses: list[Callable[[], Any]] = [
        lambda: theirs.exists("models/base"),
        lambda: theirs.read("models/base"),
        lambda: theirs.download("models/base", tmp_path / "copy"),
        lambda: list(theirs.list("")),
        lambda: theirs.write("models/base", b"mine"),
        lambda: theirs.delete("models/base"),
        lambda: list(S3Store(theirs._client, theirs._http, bucket, "").list("ns-")),
        lambda: S3Store(theirs._client, theirs._http, bucket, "").write("ns-a", b"beside the prefix"),
    ]
    for use in uses:
        with pytest.raises(StoreError, match="AccessDenied"):
            use()
    assert list(tmp_path.iterdir()) == []
    assert opened(b).read("models/base") == b"theirs"
    assert list(opened(a).list("")) == []


@pytest.mark.parametrize(
    ("program", "change", "complaint"),
    [
        ("rstar_policy", {"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
        ("rstar_ppm", {"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}, "SignatureDoesNotMatch"),
        ("rstar_jobs.rollout", {"RSTAR_STORE": "s3://no-such-bucket/ns-a"}, "AccessDenied"),
        ("rstar_jobs.delete_artifacts", {"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_keys_end_every_program_with_one_sentence_before_it_listens(
    program: str, change: dict[str, str], complaint: str, tenant: Tenant, tmp_path: Path
) -> None:
    environment = tenant("ns-a") | change
    made = StageWorkspace(tmp_path)
    command = [sys.executable, "-m", program]
    if program == "rstar_jobs.delete_artifacts":
        command += ["--round", "r1"]
    elif program == "rstar_jobs.rollout":
        command += made.arguments({})
    else:
        command += ["--model", "store:models/base", "--port", "0", "--cache", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, "--store", environment["RSTAR_STORE"]],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"does not let this user into {environment['RSTAR_STORE']} ({complaint})" in last
    assert "listening" not in done.stderr
    assert environment["AWS_SECRET_ACCESS_KEY"] not in done.stderr
    if program == "rstar_jobs.rollout":
        assert made.outcome()["exit_code"] == 1


def write_all(store: Store, keys: list[str]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda key: store.write(key, b"x"), keys))


def test_a_round_with_more_objects_than_one_listing_is_deleted_and_nothing_else(
    minio: Minio, bucket: str, tenant: Tenant
) -> None:
    store = opened(tenant("ns-a"))
    keep = ["data/train.jsonl", "rounds/r10/select/0/manifest.json"]
    many = [f"rounds/r1/rollout/0/trees/{number:05d}.parquet" for number in range(1_100)]
    write_all(store, [*keep, *many])
    opened(tenant("ns-b")).write("rounds/r1/x", b"x")
    assert delete_artifacts(store, "r1") == len(many)
    assert delete_artifacts(store, "r1") == 0
    assert list(store.list("")) == sorted(keep)
    left = {item.object_name for item in minio.client().list_objects(bucket, recursive=True)}
    assert left == {"ns-b/rounds/r1/x", *(f"ns-a/{key}" for key in keep)}


def _delete(environment: dict[str, str]) -> None:
    delete_artifacts(opened(environment), "r1")


def test_a_killed_deletion_can_be_repeated(tenant: Tenant) -> None:
    environment = tenant("ns-a")
    store = opened(environment)
    keys = [f"rounds/r1/select/{number}/{name}" for number in range(300) for name in ("manifest.json", "a", "b")]
    write_all(store, keys)
    program = SPAWN.Process(target=_delete, args=(environment,))
    program.start()
    while len(left := list(store.list("rounds/r1/"))) == len(keys):
        assert program.is_alive()
    program.kill()
    program.join()
    assert program.exitcode == -signal.SIGKILL
    left = list(store.list("rounds/r1/"))
    assert 0 < len(left) < len(keys)
    delete_artifacts(store, "r1")
    assert list(store.list("")) == []
