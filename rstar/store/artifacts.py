"""Local files for the URI of a model or a data set in a spec.

``store:PATH`` is used in place in a folder store, and downloaded from a bucket into a cache (``shared_cache``).
``hf:NAME`` is a name on the hub (``rstar.hub``). Any other URI is a local path.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from rstar.hub import snapshot
from rstar.hub_name import read_hub_name
from rstar.store.digests import MANIFEST, combined_digest
from rstar.store.folder_store import FolderStore
from rstar.store.shared_cache import RemoteFile, SharedCache
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
    """Fetch an object or a folder into ``cache/<digest>/<name>`` and return its place there.

    A folder beside a manifest is described by the manifest; of all else the store is asked for the digests.
    """
    name = key.rpartition("/")[2]
    listed = _listed_in_manifest(key, store)
    if listed:
        digest = combined_digest((file.path.removeprefix(f"{name}/"), file.sha256) for file in listed)
    else:
        keys = [key] if store.exists(key) else list(store.list(f"{key}/"))
        if not keys:
            raise FileNotFoundError(f"store:{key}: not in the store {store.uri}")
        listed = [RemoteFile(f"{name}{item.removeprefix(key)}", store.digest(item)) for item in keys]
        digest = combined_digest((file.path, file.sha256) for file in listed)

    def download(path: str, place: Path) -> None:
        try:
            store.download(f"{key}{path.removeprefix(name)}", place)
        except KeyError:
            raise FileNotFoundError(f"store:{key}{path.removeprefix(name)}: not in the store {store.uri}") from None

    try:
        return SharedCache(cache, cache_limit(os.environ)).fetch(digest, listed, download) / name
    except ValueError as error:
        raise ValueError(f"store:{key}: {error}") from None


def _listed_in_manifest(key: str, store: Store) -> list[RemoteFile]:
    """Return the files of the folder ``key`` from the manifest beside it; [] when it lists none or there is no manifest.

    The manifest is read as plain JSON, because its model is in a layer above (``rstar.rounds``). Raises ``ValueError``
    when it lists no outputs.
    """
    folder, _, name = key.rpartition("/")
    manifest = f"{folder}/{MANIFEST}" if folder else MANIFEST
    try:
        data = store.read(manifest)
    except KeyError:
        return []
    try:
        outputs = json.loads(data)["outputs"]
        files = [RemoteFile(output["path"], output["sha256"], output["size"]) for output in outputs]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"store:{manifest} lists no outputs with their digests; was it changed by hand?") from None
    return [file for file in files if file.path.startswith(f"{name}/")]


def cache_limit(environment: Mapping[str, str]) -> int | None:
    """Return the most bytes of a cache from RSTAR_CACHE_SIZE (such as 20Gi); None without it. Raises ``ValueError``."""
    text = environment.get("RSTAR_CACHE_SIZE")
    if not text:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGTP]i?|k)?", text)
    if found is None:
        raise ValueError(f"RSTAR_CACHE_SIZE={text} is no size: write one such as 20Gi")
    unit = found[2] or ""
    power = "_KMGTP".index(unit[0].upper()) if unit else 0
    return int(float(found[1]) * (1024 if unit.endswith("i") else 1000) ** power)
