"""Uploads exported folders to the hub with ``huggingface_hub``, and compares what arrived with what was sent.

The token is found by its usual chain: HF_TOKEN, then the file that ``hf auth login`` writes. An upload that was killed
continues: the client sends large files once, by their digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rstar.hub_export.plan import DATA
from rstar.hub_export.writing import ExportError
from rstar.hub_name import HubKind

_IGNORED: Final = [".tmp-*", ".tmp-*/**", ".cache/**"]


def check_online() -> None:
    """Raise ``ExportError`` when nothing can be uploaded: offline, without a token, or with one that the hub refuses."""
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise ExportError("--push: HF_HUB_OFFLINE is set: unset it, or leave --push out and upload the folders later")
    if get_token() is None:
        raise ExportError("--push: there is no token of the hub: set HF_TOKEN, or run 'hf auth login'")
    try:
        HfApi().whoami()
    except Exception as error:  # of the hub or the network
        raise ExportError(f"--push: the hub does not take the token: {_first_line(error)}") from None


def repository_of(folder: str, repository: str) -> tuple[str, HubKind]:
    """Return the repository of an exported folder and its kind: ``ORG/NAME`` the data, ``ORG/NAME-FOLDER`` a model."""
    return (repository, "dataset") if folder == DATA else (f"{repository}-{folder}", "model")


def push_folder(folder: Path, repository: str, kind: HubKind, *, private: bool) -> str:
    """Upload a folder and return the URL. Raises ``ExportError`` when the hub refuses it or holds other bytes."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        # An existing repository keeps its visibility.
        url = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type=kind,
            commit_message="Export by rstar export hub",
            ignore_patterns=_IGNORED,
        )
        checked = api.verify_repo_checksums(repository, repo_type=kind, local_dir=folder)
    except Exception as error:  # of the hub or the network
        raise ExportError(f"{repository}: {_first_line(error)}; the same command continues") from None
    if checked.mismatches:
        raise ExportError(
            f"{repository}: {checked.mismatches[0]['path']} differs on the hub; run the same command again"
        )
    return str(url)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
