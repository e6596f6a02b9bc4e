"""Manifests, digests of checkpoints, stages in the store, and local files for URIs."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import pytest
from minio import Minio

from rstar.rounds.code_version import code_version
from rstar.rounds.manifest import Manifest, digest_of, read_manifest
from rstar.rounds.observed import ManifestRef, Stage
from rstar.rounds.spec import EvolutionRoundSpec
from rstar.rounds.stage import StageRun, download_output, load_input, stage_settings
from rstar.store.artifacts import fetch
from rstar.store.digests import checkpoint_digest
from rstar.store.folder_store import FolderStore
from rstar.store.open import open_store
from rstar.store.store import Store

SPEC = EvolutionRoundSpec.model_validate({"round": 1, "baseModel": "hf:a/b", "problems": {"uri": "p.jsonl"}})


def stage(store: Store, **changes: object) -> StageRun:
    settings = stage_settings(SPEC.model_copy(update=changes), Stage.TRAIN_POLICY)
    return StageRun(store, "r1", Stage.TRAIN_POLICY, SPEC.seed, settings, {}, {"base_model": "x"})


def finished(store: Store, folder: Path) -> tuple[StageRun, ManifestRef, Manifest]:
    model = folder / "model"
    (model / "deep").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "deep" / "weights").write_bytes(b"w" * 1000)
    run = stage(store)
    ref, manifest = run.finish(run.upload_folder(model, "checkpoint"), {"loss": 1.5})
    return run, ref, manifest


def test_a_manifest_without_a_code_version_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    # importlib.metadata returns None while the package is being reinstalled.
    code_version.cache_clear()
    monkeypatch.setattr("rstar.rounds.code_version.version", lambda _name: None)
    with pytest.raises(ValueError, match="code_version"):
        finished(store, tmp_path)
    assert not [key for key in store.list("") if key.endswith("manifest.json")]


def test_equal_work_gives_equal_bytes_in_any_order(tmp_path: Path) -> None:
    _, one, manifest = finished(FolderStore(tmp_path / "a"), tmp_path / "1")
    _, other, _ = finished(FolderStore(tmp_path / "b"), tmp_path / "2")
    assert one == other
    shuffled = manifest.model_copy(update={"outputs": manifest.outputs[::-1]})
    assert shuffled.to_bytes() == manifest.to_bytes()
    assert read_manifest(manifest.to_bytes(), "m") == manifest


def test_a_stage_is_done_only_when_manifest_and_files_match(store: Store, tmp_path: Path) -> None:
    run, ref, manifest = finished(store, tmp_path)
    assert run.finished() == (ref, manifest)
    store.write(run.key("checkpoint/config.json"), b"[]")
    assert run.finished() is None
    store.write(run.key("checkpoint/config.json"), b"{}")
    assert run.finished() is not None
    store.delete(run.key("checkpoint/deep/weights"))
    assert run.finished() is None


def test_a_restart_asks_a_bucket_for_digests_and_reads_no_object(
    bucket: str, client: Minio, requests: list[tuple[str, str]], tmp_path: Path
) -> None:
    store = open_store(f"s3://{bucket}")
    run, ref, manifest = finished(store, tmp_path)
    config, weights = (f"/{bucket}/{run.key(output.path)}" for output in manifest.outputs)
    requests.clear()
    assert run.finished() == (ref, manifest)
    assert requests == [("GET", f"/{bucket}/{ref.key}"), ("HEAD", config), ("HEAD", weights)]
    client.put_object(bucket, run.key("checkpoint/config.json"), BytesIO(b"{}"), 2)
    requests.clear()
    assert run.finished() == (ref, manifest)
    assert [path for method, path in requests if method == "GET"] == [f"/{bucket}/{ref.key}", config]
    client.put_object(bucket, run.key("checkpoint/config.json"), BytesIO(b"[]"), 2)
    assert run.finished() is None


def test_the_folder_depends_on_what_the_result_depends_on_and_nothing_else(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    training = SPEC.train_policy
    same = training.model_copy(update={"save_steps": 7, "micro_batch_size": 1, "processes_per_node": 8, "fsdp": True})
    other = training.model_copy(update={"learning_rate": 1e-3})
    assert stage(store, train_policy=same).prefix == stage(store).prefix
    assert stage(store, train_policy=other).prefix != stage(store).prefix
    assert stage(store, evaluate=SPEC.evaluate.model_copy(update={"concurrency": 1})).prefix == stage(store).prefix


def test_an_input_is_verified_by_digest_and_stage(store: Store, tmp_path: Path) -> None:
    run, ref, manifest = finished(store, tmp_path)
    assert load_input(store, ref, Stage.TRAIN_POLICY) == manifest
    with pytest.raises(ValueError, match="is a manifest of stage train-policy, not of select"):
        load_input(store, ref, Stage.SELECT)
    with pytest.raises(ValueError, match="changed by hand"):
        load_input(store, ManifestRef(ref.key, "0" * 64), Stage.TRAIN_POLICY)
    with pytest.raises(ValueError, match="is not in the store"):
        load_input(store, ManifestRef("rounds/r0/x/manifest.json", ref.digest), Stage.TRAIN_POLICY)
    store.write(run.key("checkpoint/config.json"), b"[]")
    with pytest.raises(ValueError, match="does not match its manifest"):
        download_output(store, ref, manifest, "checkpoint/config.json", tmp_path / "copy")
    with pytest.raises(ValueError, match="lists no file nothing"):
        download_output(store, ref, manifest, "nothing", tmp_path / "copy")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"stage": "cooking"}'])
def test_other_bytes_than_a_manifest_are_an_error_with_the_key(data: bytes) -> None:
    with pytest.raises(ValueError, match="some/key is not a manifest"):
        read_manifest(data, "some/key")


def test_a_checkpoint_digest_covers_names_and_contents_only(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    (a / "x").mkdir(parents=True)
    (a / "x" / "1").write_text("one")
    (a / "2").write_text("two")
    shutil.copytree(a, b)
    (b / "2").touch()
    assert checkpoint_digest(a) == checkpoint_digest(b)
    (b / "2").rename(b / "3")
    assert checkpoint_digest(a) != checkpoint_digest(b)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint_digest(tmp_path / "none")


def test_a_checkpoint_is_fetched_with_all_its_files_and_has_the_digest_of_the_manifest(
    store: Store, tmp_path: Path
) -> None:
    run, _, manifest = finished(store, tmp_path)
    cache = tmp_path / "cache"
    uri = f"store:{run.prefix}/checkpoint"
    folder = fetch(uri, store, cache)
    assert isinstance(folder, Path)
    assert checkpoint_digest(folder) == manifest.folder_digest("checkpoint") == checkpoint_digest(tmp_path / "model")
    assert fetch(uri, store, cache) == folder
    if not isinstance(store, FolderStore):
        assert {path.name for path in cache.iterdir()} == {".locks", manifest.folder_digest("checkpoint")}
        (folder / "deep" / "weights").write_bytes(b"damaged")
        assert checkpoint_digest(Path(fetch(uri, store, cache))) == manifest.folder_digest("checkpoint")


def test_a_model_that_no_stage_made_is_downloaded_once_too(
    bucket: str, requests: list[tuple[str, str]], tmp_path: Path
) -> None:
    store = open_store(f"s3://{bucket}")
    for name in ("config.json", "deep/weights"):
        store.write(f"inputs/0123/base/{name}", name.encode())
    requests.clear()
    folders = {fetch("store:inputs/0123/base", store, tmp_path / "cache") for _ in range(2)}
    assert [(Path(folder) / "config.json").read_bytes() for folder in folders] == [b"config.json"]
    downloads = [path for method, path in requests if method == "GET" and "inputs/0123/base/" in path]
    assert sorted(downloads) == [f"/{bucket}/inputs/0123/base/{name}" for name in ("config.json", "deep/weights")]


def test_a_changed_file_of_the_store_is_fetched_again(store: Store, tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        store.write("data/problems.jsonl", content)
        found = fetch("store:data/problems.jsonl", store, tmp_path / "cache")
        assert isinstance(found, Path)
        assert (found.name, found.read_bytes()) == ("problems.jsonl", content)


def test_a_checkpoint_that_does_not_match_its_manifest_is_not_fetched(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}")
    run, _, manifest = finished(store, tmp_path)
    store.write(run.key("checkpoint/config.json"), b"[]")
    with pytest.raises(ValueError, match=r"checkpoint/config\.json does not match its digest"):
        fetch(f"store:{run.prefix}/checkpoint", store, tmp_path / "cache")
    assert not (tmp_path / "cache" / manifest.folder_digest("checkpoint")).exists()


def test_other_uris_are_local_paths_or_names_on_the_hub(store: Store, tmp_path: Path) -> None:
    assert fetch("hf:org/name", None, tmp_path) == "org/name"
    assert fetch(str(tmp_path), None, tmp_path) == tmp_path
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        fetch(str(tmp_path / "none"), store, tmp_path)
    with pytest.raises(FileNotFoundError, match="not in the store"):
        fetch("store:none", store, tmp_path / "cache")
    with pytest.raises(ValueError, match="no store was given"):
        fetch("store:x", None, tmp_path)


def test_the_digest_of_a_manifest_is_of_its_bytes(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "s")
    _, ref, _ = finished(store, tmp_path)
    assert digest_of(store.read(ref.key)) == ref.digest
