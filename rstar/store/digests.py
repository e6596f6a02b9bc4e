"""Digests of files and folders: they name checkpoints in manifests and in every reply of a model service.

A folder's digest covers the names and contents of its files, and neither times nor owners nor the order of listing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rstar.store.atomic import TEMPORARY

MANIFEST: Final = "manifest.json"
"""Name of the manifest in the folder of a stage."""

RUN_TIMES: Final = "run.json"
"""Name of the file beside it: when the stage was worked on, and for how long in all its attempts."""


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """Return (relative POSIX path, file) of every file below ``folder``, sorted by path; temporary files are left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(TEMPORARY))
    return sorted((path.relative_to(folder).as_posix(), path) for path in found)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_digest(entries: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 over the sorted (relative path, sha256) of the files of a folder."""
    digest = hashlib.sha256()
    for path, sha256 in sorted(entries):
        digest.update(f"{path}\0{sha256}\n".encode())
    return digest.hexdigest()


def folder_digest(files: Iterable[tuple[str, str]], folder: str) -> str:
    """Return the digest of ``folder`` from the (path, sha256) of all files of a stage; '' when it has no files."""
    prefix = f"{folder}/"
    entries = [(path.removeprefix(prefix), sha256) for path, sha256 in files if path.startswith(prefix)]
    return combined_digest(entries) if entries else ""


def checkpoint_digest(folder: Path) -> str:
    """Return the digest of the files below ``folder``. Raises ``FileNotFoundError`` when there is none."""
    files = files_of(folder)
    if not files:
        raise FileNotFoundError(f"{folder}: no files, so no checkpoint")
    return combined_digest((name, file_digest(path)) for name, path in files)
