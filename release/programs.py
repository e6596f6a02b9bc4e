"""Run the programs that make a release, or print them in a dry run."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from release.errors import ReleaseError

_LINES: Final = 12
_NOT_FOUND: Final = "not found"
_LOOK_UP_SECONDS: Final = 120.0
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
        return self._run(command, self.folder, _LOOK_UP_SECONDS)

    def exists(self, command: Sequence[str]) -> bool:
        """Return whether a registry has what the command looks up. Raises :class:`ReleaseError` if it gives no answer."""
        done = self._start(command, self.folder, _LOOK_UP_SECONDS)
        if done.returncode and _NOT_FOUND not in done.stderr:
            raise _failure(command, done)
        return done.returncode == 0

    def answers(self, command: Sequence[str]) -> bool:
        """Return whether a command that changes nothing succeeds in time."""
        try:
            return self._start(command, self.folder, _LOOK_UP_SECONDS).returncode == 0
        except ReleaseError:
            return False

    def outside(self, command: Sequence[str], folder: Path | None = None) -> None:
        """Run a command that changes a registry, the builder's storage or git; in a dry run only print it."""
        self.report(f"would run: {shlex.join(command)}" if self.dry else shlex.join(command))
        if not self.dry:
            self._run(command, folder or self.folder)

    def _run(self, command: Sequence[str], folder: Path, seconds: float | None = None) -> str:
        done = self._start(command, folder, seconds)
        if done.returncode:
            raise _failure(command, done)
        return done.stdout

    def _start(self, command: Sequence[str], folder: Path, seconds: float | None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment}
        try:
            return subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=seconds
            )
        except FileNotFoundError:
            raise ReleaseError(f"{command[0]} is not on the PATH: install it.") from None
        except subprocess.TimeoutExpired:
            raise ReleaseError(f"{shlex.join(command)} gave no answer in {seconds:.0f} s: try again.") from None


def _failure(command: Sequence[str], done: subprocess.CompletedProcess[str]) -> ReleaseError:
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return ReleaseError(f"{shlex.join(command[:2])} failed: {' | '.join(lines[-_LINES:])}")
