"""Names on the Hugging Face hub: ``hf:ORG/NAME@REVISION``, and for data sets ``hf:ORG/NAME/CONFIGURATION@REVISION``.

A revision is a branch, a tag or a commit; without one it is the branch ``main``. Only a full commit names the same files
for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

HubKind = Literal["model", "dataset"]
"""The hub's name of the two kinds of repositories."""

SCHEME: Final = "hf:"
MAIN: Final = "main"

_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})?")
_REVISION: Final = re.compile(r"[^\s@~^:?*\[\\]+")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubName:
    """``configuration``: of a data set, '' for the only one; ``revision``: a branch, a tag or a commit."""

    repository: str
    configuration: str = ""
    revision: str = MAIN

    @property
    def is_fixed(self) -> bool:
        """Whether the revision is a full commit."""
        return _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> HubName:
        """Return the name with another revision."""
        return replace(self, revision=commit)

    @property
    def uri(self) -> str:
        """The name as ``hf:ORG/NAME[/CONFIGURATION]@REVISION``."""
        configuration = f"/{self.configuration}" if self.configuration else ""
        return f"{SCHEME}{self.repository}{configuration}@{self.revision}"


def read_hub_name(uri: str, kind: HubKind) -> HubName:
    """Return the parts of ``hf:NAME[@REVISION]``; the scheme may be missing. Raises ``ValueError`` with one sentence.

    >>> read_hub_name("hf:openai/gsm8k/main@v1", "dataset")
    HubName(repository='openai/gsm8k', configuration='main', revision='v1')
    """
    path, at, revision = uri.removeprefix(SCHEME).partition("@")
    if at and not _REVISION.fullmatch(revision):
        raise ValueError(f"{uri}: after @ there must be a branch, a tag or a commit, such as @main, @v1.0 or @COMMIT")
    repository, configuration = path, ""
    if kind == "dataset" and path.count("/") == 2:
        repository, _, configuration = path.rpartition("/")
    if not _REPOSITORY.fullmatch(repository):
        form = (
            "hf:ORG/NAME@REVISION" if kind == "model" else "hf:ORG/NAME@REVISION or hf:ORG/NAME/CONFIGURATION@REVISION"
        )
        raise ValueError(f"{uri} is no name on the hub: write {form}")
    return HubName(repository, configuration, revision or MAIN)
