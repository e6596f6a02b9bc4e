"""The services as programs with mutual TLS: a search through all of them, faulty settings, and the key in the executor."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from rstar.config import SearchConfig
from rstar.interfaces import ExecutionLimits, ExecutionStatus
from rstar.problem import Problem
from rstar.record import SearchRecord
from rstar.rpc.clients import ExecutorClient
from rstar.rpc.search_client import SearchClient
from rstar.rpc.tls import KEY_VARIABLE
from tests.support.certificates import Authority, write
from tests.support.executor.restricted import obstacle
from tests.support.rpc.servicers import service_process
from tests.support.states import START
from tests.support.tiny_model import save_policy, save_ppm

CONFIG = SearchConfig(rollouts=2, candidates=2, max_depth=2, max_new_tokens=8)

READ_THE_KEY = """
import glob, os
key = {key!r}
tries = [key, os.path.join(os.path.dirname(key), "..", "now", "tls.key"), "/proc/self/environ", *glob.glob("/proc/*/environ")]
for path in tries:
    try:
        with open(path, "rb") as file:
            print("LEAKED", path, len(file.read()))
    except OSError:
        pass
try:
    print("LEAKED", os.listdir(os.path.dirname(key)))
except OSError:
    pass
print([name for name in os.environ if "TLS" in name])
"""


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A certificate in the environment of this process and of the services, in a folder that every user can read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        named = write(Path(folder), Authority().issue())
        for variable, file in named.items():
            monkeypatch.setenv(variable, file)
        yield named


async def test_a_search_runs_through_all_four_services(variables: dict[str, str], tmp_path: Path) -> None:
    monitored = ("--port", "0", "--health-port", "0")
    one_thread = ("--threads", "1", *monitored)
    policy, ppm = save_policy("llama", tmp_path / "policy"), save_ppm("llama", tmp_path / "ppm")
    async with (
        service_process("rstar_executor", "--slots", "1", *monitored) as executor,
        service_process("rstar_policy", "--model", str(policy), *one_thread) as proposer,
        service_process("rstar_ppm", "--model", str(ppm), *one_thread) as scorer,
        service_process(
            "rstar_search",
            *("--policy", proposer.address, "--executor", executor.address, "--ppm", scorer.address),
            *monitored,
        ) as search,
        SearchClient([search.address]) as client,
        aclosing(client.solve(Problem("p1", "1 + 1 = ?", "2"), CONFIG, seed=0)) as events,
    ):
        records = [event async for event in events if isinstance(event, SearchRecord)]
    [record] = records
    assert not record.error
    assert record.usage.tokens > 0
    assert record.usage.executions > 0


@pytest.mark.parametrize(
    ("service", "options"),
    [
        ("policy", ["--model", "none"]),
        ("ppm", ["--model", "none"]),
        ("executor", []),
        ("search", ["--policy", "127.0.0.1:1", "--executor", "127.0.0.1:1"]),
        ("openai", ["--search", "127.0.0.1:1"]),
    ],
)
def test_a_service_with_some_of_the_variables_ends_with_one_sentence(
    service: str, options: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    command = [sys.executable, "-m", f"rstar_{service}", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.strip() == (
        f"{service}: TLS needs all of RSTAR_TLS_CERT, RSTAR_TLS_KEY, RSTAR_TLS_CA; unset: RSTAR_TLS_KEY. Set all or none"
    )


@pytest.mark.parametrize("setting", ["this user", "container"])
async def test_no_program_can_read_the_key_of_its_executor(setting: str, variables: dict[str, str]) -> None:
    if setting == "container" and (reason := obstacle(setting)):
        pytest.skip(reason)
    command = ("rstar_executor", "--slots", "1", "--port", "0")
    if setting == "container":
        command = ("tests.support.executor.restricted", setting, sys.executable, "-m", *command)
    program = READ_THE_KEY.format(key=variables[KEY_VARIABLE])
    step = f"<code>\n# Step 1\n{program}\n<end_of_step>"
    async with service_process(*command) as executor, ExecutorClient([executor.address]) as client:
        [execution] = await client.execute(START, [step], ExecutionLimits(seconds=10))
    assert (execution.status, execution.stdout) == (ExecutionStatus.OK, "[]\n"), execution.reason
