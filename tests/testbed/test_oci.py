"""Archives of single programs: what containerd reads is what their digests say."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from rstar_testbed.node.oci import PAUSE, pause_image, program_image


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as files:
        members = {member.name: files.extractfile(member) for member in files.getmembers()}
        return {name: content.read() for name, content in members.items() if content}


def blob(found: dict[str, bytes], entry: dict[str, Any]) -> bytes:
    content = found["blobs/" + entry["digest"].replace(":", "/")]
    assert len(content) == entry["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == entry["digest"]
    return content


def test_every_digest_and_size_fits_and_the_program_is_the_entry_point(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF and more")
    found = blobs(program_image(tmp_path / "image.tar", "host/name:1", program, user="7:8"))
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "host/name:1"
    manifest = json.loads(blob(found, entry))
    config = json.loads(blob(found, manifest["config"]))
    assert config["config"] == {
        "Entrypoint": ["/usr/local/bin/program"],
        "Env": ["PATH=/usr/local/bin"],
        "User": "7:8",
        "WorkingDir": "/",
    }
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blob(found, layer))) as files:
        member = files.getmember("usr/local/bin/program")
        assert member.mode == 0o755
        content = files.extractfile(member)
        assert content is not None
        assert content.read() == program.read_bytes()
        assert files.getmember("tmp").mode == 0o1777


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_pause_program_is_static_and_ends_at_sigterm(tmp_path: Path) -> None:
    found = blobs(pause_image(tmp_path / "pause.tar"))
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == PAUSE
    (layer,) = json.loads(blob(found, entry))["layers"]
    with tarfile.open(fileobj=io.BytesIO(blob(found, layer))) as files:
        files.extract("usr/local/bin/pause", tmp_path, filter="data")
    with subprocess.Popen([tmp_path / "usr/local/bin/pause"]) as process:
        process.terminate()
        assert process.wait(timeout=60) in {0, -15}  # -15: the signal came before the handler.
