"""Local files for the URI of a model or a data set in a spec.

``store:PATH`` is used in place in a folder store, and downloaded from a bucket into a cache keyed by digest.
``hf:NAME`` is a name on the hub (``rstar.hub``). Any other URI is a local path.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from rstar.hub import snapshot
from rstar.hub_name import read_hub_name
from rstar.store.atomic import TEMPORARY
from rstar.store.digests import MANIFEST, checkpoint_digest, folder_digest
from rstar.store.folder_store import FolderStore
from rstar.store.store import Store, check_key


def fetch(uri: str, store: Store | None, cache: Path) -> Path | str:
    """Return a local file or folder, or the bare ``NAME`` of ``hf:NAME``.

    ``store:PATH`` may name an object or a folder of objects. Raises ``ValueError`` when it is given without a store,
    and ``FileNotFoundError`` when nothing is there.
    """
    if uri.startswith("hf:"):
        return uri.removeprefix("hf:")
    if not uri.startswith("store:"):
        path = Path(uri)
        if not path.exists():
            raise FileNotFoundError(f"{uri}: no such file or folder here (looked at {path.absolute()})")
        return path
    if store is None:
        raise ValueError(f"{uri} is inside a store, but no store was given")
    key = check_key(uri.removeprefix("store:").strip("/"))
    if isinstance(store, FolderStore):
        path = store.path(key)
        if not path.exists():
            raise FileNotFoundError(f"{uri}: not in the store {store.uri}")
        return path
    return _download(key, store, cache)


def fetch_model(uri: str, store: Store | None, cache: Path) -> Path:
    """Return a local Hugging Face folder: as ``fetch``, with the files of ``hf:ORG/NAME@REVISION`` from the hub.

    Raises ``ValueError`` or ``OSError`` with a sentence that names the missing thing and its place.
    """
    found = fetch(uri, store, cache)
    folder = found if isinstance(found, Path) else snapshot(read_hub_name(uri, "model"), "model")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no model: there is no config.json; give a Hugging Face model folder")
    return folder


def _download(key: str, store: Store, cache: Path) -> Path:
    """Download an object or a folder to ``cache/<digest>/<name>``, unless a manifest gives the digest and it is cached."""
    known = _digest_in_manifest(key, store)
    name = key.rpartition("/")[2]
    if known and (cache / known / name).exists():
        return cache / known / name
    partial = cache / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        if store.exists(key):
            store.download(key, partial / name)
        for item in store.list(f"{key}/"):
            store.download(item, partial / name / item.removeprefix(f"{key}/"))
        if not (partial / name).exists():
            raise FileNotFoundError(f"store:{key}: not in the store {store.uri}")
        found = checkpoint_digest(partial / name if known else partial)
        if known and found != known:
            raise ValueError(f"store:{key}: its files do not match their manifest; was the store changed by hand?")
        target = cache / found
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        return target / name
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _digest_in_manifest(key: str, store: Store) -> str:
    """Return the digest of the folder ``key`` from the manifest beside it, or '' when there is no manifest.

    The manifest is read as plain JSON, because its model is in a layer above (``rstar.rounds``). Raises ``ValueError``
    when it lists no outputs.
    """
    folder, _, name = key.rpartition("/")
    manifest = f"{folder}/{MANIFEST}" if folder else MANIFEST
    try:
        data = store.read(manifest)
    except KeyError:
        return ""
    try:
        return folder_digest([(output["path"], output["sha256"]) for output in json.loads(data)["outputs"]], name)
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"store:{manifest} lists no outputs with their digests; was it changed by hand?") from None
