from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

BIN = Path(sys.executable).parent


def test_the_stored_stubs_are_generated_from_the_protos(tmp_path: Path) -> None:
    protos = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("proto/rstar/v1/*.proto"))
    kinds = ("python", "grpc_python", "mypy", "mypy_grpc")
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-Iproto",
        *(f"--{kind}_out={tmp_path}" for kind in kinds),
        *protos,
    ]
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    generated = {path.name: path.read_text() for path in (tmp_path / "rstar/v1").iterdir()}
    stored = {path.name: path.read_text() for path in (ROOT / "rstar/v1").glob("*_pb2*.py*")}
    stale = sorted(name for name in generated.keys() | stored.keys() if generated.get(name) != stored.get(name))
    assert not stale, f"regenerate rstar/v1 from proto/: {', '.join(stale)}"


def test_the_protos_pass_buf_lint() -> None:
    result = subprocess.run([BIN / "buf", "lint", "proto"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
