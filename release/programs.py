"""Run the programs that make a release, or print them in a dry run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from release.errors import ReleaseError

_LINES: Final = 12
_NOT_FOUND: Final = "not found"
Report = Callable[[str], None]


@dataclass(frozen=True)
class Programs:
    """Runs commands in a folder. Commands that change something outside of this machine are only printed in a dry run.

    Attributes:
        folder: The released sources.
        dry: Whether it is a dry run.
        report: Takes a line of progress.
        environment: Added to that of this process.

    """

    folder: Path
    dry: bool
    report: Report
    environment: Mapping[str, str] = field(default_factory=dict)

    def local(self, command: Sequence[str]) -> str:
        """Run a command that changes files of the release only, and return its output. Raises :class:`ReleaseError`."""
        self.report(shlex.join(command))
        return self._run(command, self.folder)

    def read(self, command: Sequence[str]) -> str:
        """Run a command that changes nothing, without a report."""
        return self._run(command, self.folder)

    def exists(self, command: Sequence[str]) -> bool:
        """Return whether a registry has what the command looks up. Raises :class:`ReleaseError` if it gives no answer."""
        done = self._start(command, self.folder)
        if done.returncode and _NOT_FOUND not in done.stderr:
            raise _failure(command, done)
        return done.returncode == 0

    def answers(self, command: Sequence[str]) -> bool:
        """Return whether a command that changes nothing succeeds; a program that is missing does not."""
        return shutil.which(command[0]) is not None and self._start(command, self.folder).returncode == 0

    def outside(self, command: Sequence[str], folder: Path | None = None) -> None:
        """Run a command that changes a registry, the builder's storage or git; in a dry run only print it."""
        self.report(f"would run: {shlex.join(command)}" if self.dry else shlex.join(command))
        if not self.dry:
            self._run(command, folder or self.folder)

    def _run(self, command: Sequence[str], folder: Path) -> str:
        done = self._start(command, folder)
        if done.returncode:
            raise _failure(command, done)
        return done.stdout

    def _start(self, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, cwd=folder, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise ReleaseError(f"{command[0]} is not on the PATH: install it.") from None


def _failure(command: Sequence[str], done: subprocess.CompletedProcess[str]) -> ReleaseError:
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return ReleaseError(f"{shlex.join(command[:2])} failed: {' | '.join(lines[-_LINES:])}")
