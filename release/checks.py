"""What must hold before a release begins: facts about the repository and the machine, and the reasons to refuse."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from release.errors import ReleaseError
from release.version import CHANGELOG, has_entry, stated_versions

_MAINS: Final = ("origin/main", "main")
_FILES: Final = 5
INSTALL: Final = {
    "helm": "https://helm.sh/docs/intro/install",
    "oras": "https://oras.land/docs/installation",
    "syft": "https://github.com/anchore/syft#installation",
    "uv": "make setup",
}
"""Where to get the tools that every release needs. ``python -m rstar_testbed build helm oras syft`` builds them from source."""


@dataclass(frozen=True)
class Facts:
    """The repository and the machine.

    Attributes:
        commit: HEAD, 40 digits.
        date: Its committer date, seconds since 1970.
        changed: Files that differ from it, and files that git does not know.
        on_main: Whether it is on main.
        tagged: The commit of the release's tag; empty without one.
        changelog: The text of CHANGELOG.md.
        stated: The version in each place that states it.
        wire: How the wire contract breaks that of the last release; empty if it does not.
        missing: Tools that are not on the PATH.
        source: The public URL of the repository; empty if its remote has none.

    """

    commit: str
    date: int
    changed: tuple[str, ...]
    on_main: bool
    tagged: str
    changelog: str
    stated: Mapping[str, str]
    wire: str
    missing: tuple[str, ...]
    source: str = ""


def refusals(version: str, facts: Facts) -> list[str]:
    """Return why this commit cannot be released as ``version``, one sentence each; empty if it can."""
    found: list[str] = []
    if facts.changed:
        more = f" and {len(facts.changed) - _FILES} more" if len(facts.changed) > _FILES else ""
        found.append(f"Uncommitted changes: {', '.join(facts.changed[:_FILES])}{more}: commit or remove them.")
    if not facts.on_main:
        found.append(f"Commit {facts.commit[:12]} is not on main: merge it first, and release the merged commit.")
    if facts.tagged not in {"", facts.commit}:
        found.append(f"The tag v{version} exists, at {facts.tagged[:12]}: a version is released once, choose the next.")
    if not has_entry(facts.changelog, version):
        found.append(f"{CHANGELOG} has no section '## {version}': run 'python -m release prepare {version}'.")
    others = [f"{place} states {stated}" for place, stated in facts.stated.items() if stated != version]
    if others:
        found.append(f"{others[0]}: run 'python -m release prepare {version}', and commit it to main.")
    if facts.wire:
        found.append(f"The wire contract breaks that of the last release, or they cannot be compared: {facts.wire}")
    other = "install it, or choose another --builder"
    return [*found, *(f"{tool} is not on the PATH: {INSTALL.get(tool, other)}." for tool in facts.missing)]


def observe(root: Path, version: str, tools: Iterable[str]) -> Facts:
    """Read the facts."""
    commit = git(root, "rev-parse", "HEAD")
    main = next((name for name in _MAINS if git(root, "rev-parse", "--quiet", "--verify", name, check=False)), None)
    changelog = root / CHANGELOG
    return Facts(
        commit=commit,
        date=int(git(root, "show", "--no-patch", "--format=%ct", commit)),
        changed=tuple(line[3:] for line in git(root, "status", "--porcelain").splitlines()),
        on_main=main is not None and git(root, "merge-base", commit, main, check=False) == commit,
        tagged=git(root, "rev-parse", "--quiet", "--verify", f"v{version}^{{commit}}", check=False),
        changelog=changelog.read_text() if changelog.exists() else "",
        stated=stated_versions(root),
        wire=_wire(root),
        missing=tuple(tool for tool in tools if shutil.which(tool) is None),
        source=public_url(git(root, "remote", "get-url", "origin", check=False)),
    )


def public_url(remote: str) -> str:
    """Return a remote's URL as https without user or password; empty for a remote that is no server's repository."""
    found = re.fullmatch(r"(?:https://(?:[^@/]*@)?|ssh://git@|git@)([\w.-]+\.[\w-]+)[:/](.+?)(?:\.git)?/?", remote)
    return f"https://{found[1]}/{found[2]}" if found else ""


def git(root: Path, *arguments: str, check: bool = True) -> str:
    """Run git and return its output. Raises :class:`ReleaseError` if it fails; with ``check=False`` the answer is empty."""
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    if done.returncode and check:
        raise ReleaseError(f"git {arguments[0]} failed in {root}: {done.stderr.strip()}")
    return "" if done.returncode else done.stdout.rstrip("\n")


def _wire(root: Path) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", "proto-breaking"], cwd=root, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else " | ".join((done.stdout + done.stderr).strip().splitlines()[-5:])
