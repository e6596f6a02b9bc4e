"""The contract of a store, on a folder and on a real S3 server."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio

from rstar.store.folder_store import FolderStore
from rstar.store.open import open_store
from rstar.store.s3_access import ENDPOINTS
from rstar.store.store import Store, StoreError

SPAWN = multiprocessing.get_context("spawn")


def test_written_and_uploaded_objects_are_read_back(store: Store, tmp_path: Path) -> None:
    store.write("a/b.bin", b"\0\xff")
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(b"x" * 100_000)
    store.upload("a/big", source)
    target.parent.mkdir()
    store.download("a/big", target)
    assert store.read("a/b.bin") == b"\0\xff"
    assert target.read_bytes() == source.read_bytes()


def test_a_second_write_replaces_the_first(store: Store) -> None:
    store.write("k", b"first")
    store.write("k", b"")
    assert store.read("k") == b""


def test_the_digest_is_the_sha256_of_the_object(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc" * 1000)
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    store.write("written", source.read_bytes())
    store.upload("uploaded", source)
    store.upload("known", source, expected)
    assert [store.digest(key) for key in ("written", "uploaded", "known")] == [expected] * 3
    store.write("uploaded", b"changed")
    assert store.digest("uploaded") == hashlib.sha256(b"changed").hexdigest()


def test_the_digest_of_an_object_of_another_client_is_computed_from_its_bytes(
    bucket: str, client: Minio, requests: list[tuple[str, str]]
) -> None:
    store = open_store(f"s3://{bucket}")
    store.write("key", b"ours")
    for metadata in (None, {"sha256": "not a digest"}):
        client.put_object(bucket, "key", BytesIO(b"theirs"), 6, metadata=metadata)
        requests.clear()
        assert store.digest("key") == hashlib.sha256(b"theirs").hexdigest()
        assert requests == [("HEAD", f"/{bucket}/key"), ("GET", f"/{bucket}/key")]


def test_a_missing_object_does_not_exist_and_is_a_key_error(store: Store, tmp_path: Path) -> None:
    store.write("folder/file", b"")
    for key in ("missing", "folder", "folder/file/below"):
        assert not store.exists(key)
        with pytest.raises(KeyError):
            store.read(key)
        with pytest.raises(KeyError):
            store.digest(key)
        with pytest.raises(KeyError):
            store.download(key, tmp_path / "target")
    assert list(tmp_path.glob("target*")) == []


def test_list_gives_the_keys_of_a_prefix_in_order(store: Store) -> None:
    for key in ("b/2", "b/10", "b/1/x", "bc", "a"):
        store.write(key, b"")
    assert list(store.list("b/")) == ["b/1/x", "b/10", "b/2"]
    assert list(store.list("b")) == ["b/1/x", "b/10", "b/2", "bc"]
    assert list(store.list("")) == ["a", "b/1/x", "b/10", "b/2", "bc"]
    assert list(store.list("none/")) == []


def test_delete_removes_an_object_and_the_folders_that_are_empty_without_it(store: Store) -> None:
    store.write("a/b", b"")
    store.delete("a/b")
    store.delete("a/b")
    assert list(store.list("")) == []
    store.write("a", b"the name of the empty folder is free again")
    assert store.exists("a")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a/.tmp-1", "a\\b", "a\nb"])
def test_keys_that_leave_the_store_or_differ_between_stores_are_refused(store: Store, key: str) -> None:
    for use in (store.exists, store.digest, store.read, store.delete, lambda key: store.write(key, b"")):
        with pytest.raises(ValueError, match="no key of a store"):
            use(key)


def _write_until_killed(folder: str) -> None:
    store = FolderStore(Path(folder))
    n = 0
    while True:
        n += 1
        store.write("key", bytes([n % 256]) * 1_000_000)


def test_a_killed_writer_leaves_only_whole_objects(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    writer = SPAWN.Process(target=_write_until_killed, args=(str(tmp_path),))
    writer.start()
    while not store.exists("key"):
        assert writer.is_alive()
    seen = {store.read("key") for _ in range(50)}
    writer.kill()
    writer.join()
    seen.add(store.read("key"))
    assert all(len(data) == 1_000_000 and len(set(data)) == 1 for data in seen)
    assert list(store.list("")) == ["key"]


def _write_on_a_full_disk(folder: str, message: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        FolderStore(Path(folder)).write("deep/key", b"x" * 20_000)
    except StoreError as error:
        Path(message).write_text(str(error))


def test_a_full_disk_is_one_sentence_and_leaves_the_old_object(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.write("deep/key", b"old")
    writer = SPAWN.Process(target=_write_on_a_full_disk, args=(str(store.folder), str(tmp_path / "message")))
    writer.start()
    writer.join()
    assert "no room for deep/key" in (tmp_path / "message").read_text()
    assert store.read("deep/key") == b"old"
    assert [path.name for path in (store.folder / "deep").iterdir()] == ["key"]


def test_a_path_and_a_file_uri_open_the_same_folder(tmp_path: Path) -> None:
    odd = tmp_path / "with space"
    open_store(str(odd)).write("k", b"v")
    assert open_store(odd.as_uri()).read("k") == b"v"


@pytest.mark.parametrize(
    ("uri", "environment", "complaint"),
    [
        ("ftp://x/y", {}, "is no store"),
        ("", {}, "is no store"),
        ("file://host/x", {}, "has no host"),
        ("s3://bucket", {}, "needs RSTAR_S3_ENDPOINT"),
        ("s3://bucket", {"RSTAR_S3_ENDPOINT": "minio:9000"}, "needs RSTAR_S3_ENDPOINT=http"),
        (
            "s3://bucket",
            {"RSTAR_S3_ENDPOINT": "http://minio:9000"},
            "needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, a profile .* or an IAM role",
        ),
        (
            "s3://bucket",
            {"RSTAR_S3_ENDPOINT": "http://minio:9000", "AWS_ACCESS_KEY_ID": "key"},
            "needs AWS_SECRET_ACCESS_KEY in the environment, where AWS_ACCESS_KEY_ID is",
        ),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "minio:9000"}, "needs AWS_ENDPOINT_URL=http"),
        ("s3:///x", {}, "is not s3://BUCKET/PREFIX"),
    ],
)
def test_a_wrong_uri_or_environment_is_an_error_with_the_remedy(
    uri: str, environment: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch)
    # Nothing answers there: the machine has no role.
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=complaint):
        open_store(uri)


def without_keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Remove the keys from the environment, with the shared credentials file, and return them."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    keys = {name: os.environ.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    for name in keys:
        monkeypatch.delenv(name, raising=False)
    return keys


def test_keys_come_from_a_profile_and_the_address_from_the_variable_of_other_clients(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = without_keys(monkeypatch)
    lines = (f"{name.lower()} = {value}" for name, value in keys.items())
    (tmp_path / "credentials").write_text("\n".join(("[lab]", *lines)))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["RSTAR_S3_ENDPOINT"])
    monkeypatch.delenv("RSTAR_S3_ENDPOINT")
    open_store(f"s3://{bucket}/profile").write("k", b"v")
    assert open_store(f"s3://{bucket}").read("profile/k") == b"v"


def test_keys_come_from_the_role_of_a_container_and_are_renewed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = without_keys(monkeypatch)
    asked = []

    class Role(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            until = datetime.now(UTC) + timedelta(seconds=1)
            content = {
                "AccessKeyId": keys["AWS_ACCESS_KEY_ID"],
                "SecretAccessKey": keys["AWS_SECRET_ACCESS_KEY"],
                "Token": "",
                "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Role) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_address[1]}/role")
        store = open_store(f"s3://{bucket}/role")
        store.write("k", b"v")
        assert store.read("k") == b"v"
        server.shutdown()
    # Keys that end within ten seconds are asked for again at each request.
    assert set(asked) == {"/role"}
    assert len(asked) > 1


@pytest.mark.usefixtures("bucket")
def test_a_missing_bucket_is_an_error_with_its_name() -> None:
    with pytest.raises(StoreError, match="bucket no-such-bucket does not exist"):
        open_store("s3://no-such-bucket/x")


def test_prefixes_of_one_bucket_do_not_see_each_other(bucket: str) -> None:
    open_store(f"s3://{bucket}/one").write("k", b"1")
    assert list(open_store(f"s3://{bucket}/on").list("")) == []
    assert list(open_store(f"s3://{bucket}").list("")) == ["one/k"]
