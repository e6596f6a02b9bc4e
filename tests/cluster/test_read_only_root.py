"""Every program in a restricted pod: a user without a name or a home, a read-only root, writable /tmp and /cache.

The environment is that of the image's Dockerfile, the mounts are those of a container. No cluster is needed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rstar_testbed.kubelet import sandbox
from rstar_testbed.kubelet.sandbox import Sandbox, program_folders

from rstar.interfaces import ExecutionLimits, ExecutionStatus, Sampling, State
from rstar.rounds.observed import ManifestRef
from rstar.rpc.clients import ExecutorClient, PolicyClient, PreferenceModelClient
from rstar.store.folder_store import FolderStore
from tests.support.cluster.pods import needs_root
from tests.support.jobs.stage_workspace import FAST, StageWorkspace, examples, make_base, pairs
from tests.support.paths import ROOT
from tests.support.states import START
from tests.support.tiny_model import save_policy, save_ppm

# Importing torch is most of the time, which is long where much else runs.
pytestmark = [needs_root, pytest.mark.timeout(900)]

# The user of the images.
AS_USER = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs", "--pdeathsig=KILL", "--"]


def environment_of(dockerfile: str) -> dict[str, str]:
    """What an image's ENV lines set."""
    lines = re.findall(r"^ENV (.*)$", (ROOT / dockerfile).read_text(), re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in line.split() if not pair.startswith("PATH="))


def closed_folders(programs: list[str]) -> list[Path]:
    """Return the outermost folders above ``programs`` that other users may not enter, such as root's home."""
    closed = {above for path in programs for above in Path(path).parents if above.stat().st_mode & 0o005 != 0o005}
    return sorted(folder for folder in closed if not closed & set(folder.parents))


class Container:
    """The folders of containers: they may write to ``tmp``, ``cache`` and the termination message alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.tmp, self.cache, self.message = folder / "tmp", folder / "cache", folder / "message"
        for place in (self.tmp, self.cache):
            place.mkdir()
            place.chmod(0o777)
        self.message.touch()
        self.message.chmod(0o666)
        (folder / "hosts").write_text("127.0.0.1 localhost pod\n")
        (folder / "resolv.conf").touch()
        # In an image every user may read the programs. A folder that is closed to others is replaced by an open one; the
        # sandbox mounts the programs into it.
        self.programs = program_folders()
        self.opened: list[tuple[str, str, bool]] = []
        for number, closed in enumerate(closed_folders(self.programs)):
            stand_in = folder / f"closed{number}"
            stand_in.mkdir()
            self.opened.append((str(stand_in), str(closed), True))

    def start(self, dockerfile: str, command: list[str]) -> subprocess.Popen[str]:
        """Start a program as process 1 of a container. It may read everything in the folder."""
        for path in self.folder.rglob("*"):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        described = scratch.with_suffix(".json")
        box = Sandbox(
            command=[*AS_USER, *command],
            environment={
                "HOME": "/nonexistent",
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                **environment_of(dockerfile),
                **FAST,
            },
            directory="/tmp",
            hostname="pod",
            scratch=str(scratch),
            mounts=[
                *self.opened,
                (str(self.tmp), "/tmp", False),
                (str(self.cache), "/cache", False),
                (str(self.message), "/dev/termination-log", False),
                (str(self.folder / "hosts"), "/etc/hosts", True),
                (str(self.folder / "resolv.conf"), "/etc/resolv.conf", True),
            ],
            programs=self.programs,
            read_only_root=True,
        )
        box.write(described)
        program = [sys.executable, "-I", sandbox.__file__, str(described), str(os.getpid())]
        process = subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.started.append(process)
        return process


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    # Not below /tmp, which the containers cover. The containers mount nothing in this mount namespace, so that the folder's
    # removal meets none of their mounts.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        made = Container(Path(folder))
        yield made
        for process in made.started:
            process.kill()
            with process:
                pass


def address_of(process: subprocess.Popen[str], event: str = "serving") -> str:
    """Wait until a service logs ``event``; return the address in it."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("{") and (entry := json.loads(line)).get("event") == event:
            return str(entry["address"])
    pytest.fail("".join(lines))


def open_for_writing(fifo: Path, process: subprocess.Popen[str]) -> int:
    """Open a FIFO once ``process`` reads from it; fail if the process ends before. A plain open() would wait for ever."""
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # Nobody reads yet.
                raise
        if process.poll() is not None:
            pytest.fail(f"exit code {process.returncode} before it read the round: {process.communicate()[1]}")
        time.sleep(0.05)


def end(process: subprocess.Popen[str]) -> None:
    """End a service by SIGTERM."""
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


SERVICE = ["--host", "127.0.0.1", "--port", "0"]


async def test_the_model_services_start_and_answer(container: Container) -> None:
    for kind, save in (("policy", save_policy), ("ppm", save_ppm)):
        model = ["--model", str(save("llama", container.folder / kind)), "--cache", "/cache"]
        process = container.start(f"services/{kind}/Dockerfile", ["python", "-m", f"rstar_{kind}", *SERVICE, *model])
        address = address_of(process)
        state = State("p", "1 + 1 = ?")
        if kind == "policy":
            async with PolicyClient([address]) as policy:
                assert (await policy.propose(state, 1, Sampling(max_new_tokens=2), 0)).candidates
        else:
            async with PreferenceModelClient([address]) as ppm:
                assert len((await ppm.score(state, ["2"])).values) == 1
        end(process)


async def test_the_executor_runs_programs(container: Container) -> None:
    process = container.start("services/executor/Dockerfile", ["python", "-m", "rstar_executor", *SERVICE])
    async with ExecutorClient([address_of(process)]) as executor:
        candidate = "import sympy\nprint(sympy.factorint(12))"
        (execution,) = await executor.execute(START, [candidate], ExecutionLimits())
    assert (execution.status, execution.stdout.strip()) == (ExecutionStatus.OK, "{2: 2, 3: 1}")
    end(process)


def test_the_search_starts_and_a_signal_ends_its_wait_for_the_others(container: Container) -> None:
    nobody = ["--policy", "127.0.0.1:1", "--executor", "127.0.0.1:1"]
    process = container.start("services/search/Dockerfile", ["python", "-m", "rstar_search", *SERVICE, *nobody])
    address_of(process, "listening")
    end(process)


def _workspace(container: Container) -> StageWorkspace:
    make_base(container.folder / "base")
    made = StageWorkspace(
        container.folder,
        baseModel=str(container.folder / "base"),
        trainPolicy={"epochs": 1, "batchSize": 8},
        trainPpm={"epochs": 1, "batchSize": 8},
    )
    made.problems.write_text(json.dumps({"id": "p0", "question": "?", "answer": "1"}))
    made.store = FolderStore(container.cache / "store")
    made.result = Path("/dev/termination-log")
    made.progress = Path("/tmp/progress.json")
    return made


def stage(
    container: Container, made: StageWorkspace, name: str, inputs: dict[str, ManifestRef], *more: str
) -> dict[str, Any]:
    """Run a stage as a pod does; what its termination message says, its exit code, and how it ended itself."""
    container.message.write_text("")
    for path in container.cache.rglob("*"):
        path.chmod(0o777)
    launcher = ["torchrun", "--nproc-per-node", "1", "-m"] if name.startswith("train") else ["python", "-m"]
    arguments = made.arguments(inputs, *more, "--cache", "/cache", "--store", "/cache/store")
    process = container.start("jobs/Dockerfile", [*launcher, f"rstar_jobs.{name}", *arguments])
    _, errors = process.communicate()
    message = container.message.read_text()
    assert message, errors
    return {"code": process.returncode, **json.loads(message)}


def manifest(outcome: dict[str, Any]) -> ManifestRef:
    assert outcome["code"] == 0, outcome
    return ManifestRef(outcome["manifest"], outcome["digest"])


def test_the_stages_run_and_leave_their_termination_message(container: Container) -> None:
    made = _workspace(container)
    manifest(stage(container, made, "select", {"rollout": made.rolled_out()}))
    select = made.selected(examples(8), [(pair, "train") for pair in pairs(8)])
    policy = manifest(stage(container, made, "train_policy", {"select": select}))
    ppm = manifest(stage(container, made, "train_ppm", {"select": select, "policy": policy}))
    manifest(stage(container, made, "evaluate", {"policy": policy, "ppm": ppm}))
    refused = stage(container, made, "rollout", {})
    assert (refused["code"], refused["exit_code"]) == (2, 2)
    assert "give --search HOST:PORT" in refused["error"]


def test_under_torchrun_the_termination_message_tells_bad_input_that_the_exit_code_hides(container: Container) -> None:
    made = _workspace(container)
    refused = stage(container, made, "train_policy", {})
    assert (refused["code"], refused["exit_code"]) == (1, 2)
    assert "the input select is missing" in refused["error"]


@pytest.mark.parametrize("program", ["rollout", "select", "train_policy"])
def test_process_1_heeds_sigterm_whatever_it_is_doing(container: Container, program: str) -> None:
    made = _workspace(container)
    # Nobody writes to the FIFO, so that the program waits where it reads the round.
    fifo = container.tmp / "round"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    arguments = made.arguments({}, "--round", "/tmp/round")
    process = container.start("jobs/Dockerfile", ["python", "-m", f"rstar_jobs.{program}", *arguments])
    writing = open_for_writing(fifo, process)
    try:
        process.send_signal(signal.SIGTERM)
        process.wait()
    finally:
        os.close(writing)
    assert process.returncode == 143
    assert json.loads(container.message.read_text())["exit_code"] == 143


def test_datasets_of_the_hub_can_be_cached(container: Container) -> None:
    (container.folder / "rows.jsonl").write_text('{"a": 1}\n')
    program = "import sys; from datasets import load_dataset; print(load_dataset('json', data_files=sys.argv[1]))"
    process = container.start("jobs/Dockerfile", ["python", "-c", program, str(container.folder / "rows.jsonl")])
    _, errors = process.communicate()
    assert process.returncode == 0, errors
