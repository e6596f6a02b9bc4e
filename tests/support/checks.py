"""Checks for the tests of ``benchmarks.gpu_check.runner``: each ends in another way."""

from __future__ import annotations

import os
import subprocess
import time

from benchmarks.gpu_check.runner import Figures, Setting, Skipped


def passes(setting: Setting) -> Figures:
    print("a line on standard output")
    return {"figure": 1.5, "device": setting.device}


def fails(setting: Setting) -> Figures:
    raise ValueError("two and two\nare five")


def hangs(setting: Setting) -> Figures:
    child = subprocess.Popen(["sleep", "1000"])
    (setting.folder / "pid").write_text(str(child.pid))
    time.sleep(1_000)
    return {}


def ends(setting: Setting) -> Figures:
    os._exit(3)


def skips(setting: Setting) -> Figures:
    raise Skipped("not on this machine")
