"""Opens the store of a URI; the one place that names all kinds of stores."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from rstar.store.folder_store import FolderStore
from rstar.store.store import Store


def open_store(uri: str) -> Store:
    """Open a folder (a path or ``file://``) or a bucket (``s3://BUCKET/PREFIX``).

    Raises ``ValueError`` when the URI or the environment is wrong, ``StoreError`` when a bucket cannot be reached.
    """
    if uri.startswith("s3://"):
        from rstar.store.s3_store import S3Store  # minio takes a quarter of a second to load

        return S3Store.from_environment(uri)
    if uri.startswith("file://"):
        return FolderStore(folder_of(uri))
    if "://" in uri or not uri:
        raise ValueError(f"{uri!r} is no store: use a folder, file:///PATH or s3://BUCKET/PREFIX")
    return FolderStore(Path(uri))


def folder_of(uri: str) -> Path:
    """Return the folder that a ``file://`` URI names. Raises ``ValueError`` for one with a host."""
    parts = urlsplit(uri)
    if parts.netloc not in {"", "localhost"}:
        raise ValueError(f"{uri!r}: a file URI has no host; write file:///PATH")
    return Path(unquote(parts.path))
