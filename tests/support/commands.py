"""The command ``rstar`` as a process, without colours, and what a refusal looks like."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RSTAR = (sys.executable, "-m", "rstar.cli.main")
PLAIN_TERMINAL = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    out: str
    err: str


def rstar(*arguments: str, cwd: Path | None = None, environment: Mapping[str, str] = PLAIN_TERMINAL) -> Finished:
    done = subprocess.run(
        [*RSTAR, *arguments], capture_output=True, text=True, timeout=60, env=environment, cwd=cwd, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


async def rstar_with_servers(*arguments: str) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *RSTAR, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=PLAIN_TERMINAL
    )
    out, err = await process.communicate()
    return Finished(process.returncode or 0, out.decode(), err.decode())


def assert_refused(finished: Finished, *parts: str) -> None:
    """Assert exit code 2, and a message on standard error with all ``parts`` and no traceback."""
    assert finished.code == 2, finished.err
    assert "Traceback" not in finished.err
    assert finished.out == ""
    for part in parts:
        assert part in finished.err
