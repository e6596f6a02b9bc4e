"""``python -m rstar_testbed up``: a cluster for a developer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from rstar_testbed.__main__ import ENVIRONMENT

from tests.support.cluster.pods import wait_until


def test_a_shell_gets_its_environment_the_bucket_exists_and_sigterm_ends_everything(tmp_path: Path) -> None:
    folder, log = tmp_path / "bed", tmp_path / "log"
    command = [sys.executable, "-m", "rstar_testbed", "up", "--folder", str(folder), "--no-training-operator"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as up:
        try:
            wait_until(lambda: (folder / ENVIRONMENT).exists() or up.poll() is not None, "a testbed that is up")
            assert up.poll() is None, log.read_text()
            found: dict[str, str] = json.loads((folder / ENVIRONMENT).read_text())
            environment = {**os.environ, **found, "PATH": f"{found['PATH']}:{os.environ['PATH']}"}
            wait = ["kubectl", "wait", "--for=create", "serviceaccount/default", "--timeout=180s"]
            subprocess.run(wait, env=environment, check=True)
            keys = (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])
            store = Minio(urlsplit(found["RSTAR_S3_ENDPOINT"]).netloc, *keys, secure=False)
            assert store.bucket_exists(urlsplit(found["RSTAR_STORE"]).netloc)
        finally:
            up.terminate()
    assert up.returncode == 0, log.read_text()
    assert not (folder / ENVIRONMENT).exists()
