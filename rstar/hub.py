"""The commit that a name on the Hugging Face hub means, and the files of a commit, through ``huggingface_hub``.

Offline (``HF_HUB_OFFLINE=1``, or no network) both come from the hub's local cache. ``huggingface_hub`` is imported only
here, when it is needed: the executor and the operator have none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rstar.hub_name import HubKind, HubName

T = TypeVar("T")

log = logging.getLogger(__name__)


def commit_of(name: HubName, kind: HubKind) -> str:
    """Return the commit (40 hex digits) of the name's revision: the hub's, or the cached one where it is unreachable.

    Raises ``ValueError`` with one sentence when the hub refuses the name, or when it is neither reachable nor cached.
    """
    if name.is_fixed:
        return name.revision
    from huggingface_hub import HfApi

    found = _asked(
        name, kind, lambda: HfApi().resolve_revision(name.repository, repo_type=kind, revision=name.revision)
    )
    return found.resolved


def snapshot(name: HubName, kind: HubKind) -> Path:
    """Return a local folder with all files of the name's revision, downloaded into the hub's cache where they are missing.

    The files are compared with the hub's checksums, where it can be reached, and damaged ones are fetched again. Raises
    ``ValueError`` as ``commit_of``, when only a part of the files is cached, and for a file that stays damaged.
    """
    fixed = name.at(commit_of(name, kind))
    from huggingface_hub import snapshot_download

    def download() -> str:
        return str(snapshot_download(fixed.repository, repo_type=kind, revision=fixed.revision))

    folder = Path(_asked(fixed, kind, download))
    if damaged := _damaged(fixed, kind):
        _fetch_again(fixed, kind, damaged)
        if damaged := _damaged(fixed, kind):
            raise ValueError(
                f"{fixed.uri}: {damaged[0]} does not match the hub's checksum, also after a second download"
            )
    return folder


def _damaged(name: HubName, kind: HubKind) -> list[str]:
    """Return the files of a cached commit that differ from the hub's checksums; [] where the hub cannot be reached."""
    from huggingface_hub import HfApi

    try:
        checked = _asked(
            name,
            kind,
            lambda: HfApi().verify_repo_checksums(name.repository, repo_type=kind, revision=name.revision),
        )
    except ValueError as error:
        log.warning("not compared with the hub's checksums: %s", error)
        return []
    return [mismatch["path"] for mismatch in checked.mismatches]


def _fetch_again(name: HubName, kind: HubKind, paths: Sequence[str]) -> None:
    from huggingface_hub import hf_hub_download

    for path in paths:
        log.warning("%s: %s is damaged in the hub's cache: fetched again", name.uri, path)

        def download(path: str = path) -> str:
            return str(
                hf_hub_download(name.repository, path, repo_type=kind, revision=name.revision, force_download=True)
            )

        _asked(name, kind, download)


def _asked(name: HubName, kind: HubKind, request: Callable[[], T]) -> T:
    """Return the answer of the hub's client, with its errors as one sentence."""
    from huggingface_hub import errors

    what = f"the {'model' if kind == 'model' else 'data set'} {name.uri}"
    try:
        return request()
    except errors.RevisionNotFoundError:
        raise ValueError(f"{what}: the hub has no such revision; check the part after @") from None
    except errors.GatedRepoError:
        raise ValueError(
            f"{what}: its owner must grant access; ask for it on the hub's page, and set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ValueError(
            f"{what}: the hub does not know it; check the name, and set HF_TOKEN if it is private"
        ) from None
    except (errors.RevisionResolutionError, errors.LocalEntryNotFoundError) as error:
        raise ValueError(
            f"{what} is not (completely) in the hub's local cache, and the hub cannot be reached ({_first_line(error)}); "
            "check the network and HF_HUB_OFFLINE, or give a local folder"
        ) from error
    except Exception as error:  # of the hub, the network or the file system
        raise ValueError(f"{what}: cannot be fetched from the hub ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    """Return the first line of the innermost cause: the hub's client wraps it in advice for its own options."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
