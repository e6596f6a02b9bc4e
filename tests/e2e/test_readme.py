"""The README's section on clusters, word for word: its commands run on the node, with the two files that a reader has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rstar_testbed.cluster import Testbed
from rstar_testbed.node.images import chart_options

from tests.e2e.conftest import UseImages
from tests.support.cluster import tiny_rounds
from tests.support.cluster.lab import EXECUTORS, IMAGES, SMALL
from tests.support.cluster.real_rounds import SECONDS
from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 1_800)]


def commands() -> list[str]:
    """Return the commands of the section, without their comments."""
    section = (ROOT / "README.md").read_text().partition("## On a cluster")[2].partition("\n## ")[0]
    lines = re.findall(r"^ {4}((?:helm|rstar|kubectl) .*)$", section, re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in lines]


def test_the_section_has_the_three_commands() -> None:
    assert [line.split()[0] for line in commands()] == ["helm", "rstar", "kubectl"]


@dataclass(frozen=True)
class Reader:
    """A reader's folder with the charts, ``storage.yaml`` and ``mine.yaml``, and the environment of the reader's shell."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str) -> str:
        """Run one line and return its output."""
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def watch(self, command: str, last: str) -> str:
        """Run a command that does not end until its output has ``last``, and return the output."""
        lines: list[str] = []
        with subprocess.Popen(
            command, shell=True, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True,
            process_group=0,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    lines.append(line)
                    if last in line:
                        break
            finally:
                os.killpg(process.pid, 15)
        return "".join(lines)


def values_of(options: list[str]) -> dict[str, Any]:
    """Return ``--set=A.B=C,...`` options as the values that a file would have."""
    values: dict[str, Any] = {}
    for option in ",".join(each.removeprefix("--set=") for each in options).split(","):
        path, _, text = option.partition("=")
        *above, key = path.split(".")
        place = values
        for name in above:
            place = place.setdefault(name, {})
        place[key] = yaml.safe_load(text)
    return values


@pytest.fixture
def reader(testbed: Testbed, use_images: UseImages, tmp_path: Path) -> Iterator[Reader]:
    """Write the reader's files: the store and the images of this cluster, and one small round on local files."""
    minio = testbed.minio
    assert minio is not None
    minio.client().make_bucket("readme")
    tiny_rounds.make_games(tmp_path / "data")
    base_model = tiny_rounds.start_base_model(tmp_path / "data")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("helm", "kubectl"):
        (programs / name).symlink_to(testbed.binaries[name])
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    # As charts/rstar/ci/storage-values.yaml, with the images' registry and sizes for two cores.
    values = values_of([*chart_options(use_images(*IMAGES)), *EXECUTORS])
    keys = {"accessKey": minio.access_key, "secretKey": minio.secret_key}
    values["storage"] = {"create": True, "store": "s3://readme/lab", "endpoint": minio.endpoint, **keys}
    (tmp_path / "storage.yaml").write_text(yaml.safe_dump(values))
    [body] = tiny_rounds.tiny_rounds(1)
    text = json.dumps(body).replace("store:", f"{tmp_path}/data/")
    mine = json.loads(text)
    mine["spec"]["cluster"] = {"resources": SMALL}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert base_model.wait() == 0
    path = f"{programs}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    yield Reader(
        tmp_path, os.environ | testbed.environment() | {"PATH": path, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    )
    testbed.helm("uninstall", "rstar", "-n", "lab", "--ignore-not-found")
    testbed.kubectl("delete", "namespace", "lab", "--wait=false", "--ignore-not-found")


def test_a_reader_of_the_section_sees_the_round_succeed(reader: Reader) -> None:
    install, submit, watch = commands()
    # An earlier test's CRDs may be left, as an uninstalled chart leaves them.
    reader.run(f"{install} --take-ownership")
    assert "r1" in reader.run(submit)
    seen = reader.watch(watch, "AllStagesDone")
    for stage in ("rollout", "select", "train-policy", "train-ppm", "evaluate"):
        assert re.search(rf"^r1 +1 +{stage} .*StageRunning", seen, re.MULTILINE), seen
