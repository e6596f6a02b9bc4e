"""OCI archives of single static programs, written without a container engine: the infrastructure of the node needs no more."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from rstar_testbed.errors import TestbedError

REGISTRY: Final = "testbed.rstar.dev"
"""The name under which the node knows its images. Nothing is pulled from it: it does not exist."""

PAUSE: Final = f"{REGISTRY}/pause:1"
_PAUSE_SOURCE: Final = """\
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { _exit(0); }
static void reap(int number) { while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
  signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap);
  for (;;) pause();
}
"""
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def program_image(archive: Path, name: str, program: Path, user: str = "65532:65532") -> Path:
    """Write an OCI archive of the image ``name`` that holds a static executable in /usr/local/bin as its entry point.

    Args:
        archive: The file to write.
        name: The image's full name with a tag, such as ``testbed.rstar.dev/coredns:1``.
        program: The executable.
        user: The user and group that it runs as.

    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        for folder in ("tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            files.addfile(entry)
        entry = tarfile.TarInfo(f"usr/local/bin/{program.name}")
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as executable:
            files.addfile(entry, executable)
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    layer_entry = blob(layer.getvalue(), "application/vnd.oci.image.layer.v1.tar")
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": [f"/usr/local/bin/{program.name}"],
            "Env": ["PATH=/usr/local/bin"],
            "User": user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_entry["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer_entry],
    }
    entry_point = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    entry_point["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry_point]}).encode()
    blobs["oci-layout"] = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
    with tarfile.open(archive, "w") as out:
        for path, content in blobs.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return archive


def pause_image(archive: Path) -> Path:
    """Write the image of the process that holds a pod's namespaces. Needs a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise TestbedError("A node needs a C compiler for its pause program: install gcc.")
    with tempfile.TemporaryDirectory() as scratch:
        source, program = Path(scratch, "pause.c"), Path(scratch, "pause")
        source.write_text(_PAUSE_SOURCE)
        done = subprocess.run(
            [compiler, "-Os", "-static", "-o", program, source], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise TestbedError(f"The pause program does not compile: {done.stderr.strip()[-400:]}")
        return program_image(archive, PAUSE, program, user="65535:65535")
