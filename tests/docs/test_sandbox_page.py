"""The page on the sandbox: each curl command prints the reply below it, and the tables name what the code has."""

from __future__ import annotations

import asyncio
import json
import re
import shlex

import pytest
from rstar_executor.server import http_server, run_code
from rstar_executor.server.http_server import HttpServer, HttpSettings
from rstar_executor.server.local_executor import LocalExecutor

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/sandbox.md").read_text()
COMMANDS = re.findall(r"^    (curl .+)$", PAGE, re.MULTILINE)
EXAMPLES = re.findall(r"^    (curl .+)\n\n```json\n(.+)\n```$", PAGE, re.MULTILINE)


async def test_every_curl_command_prints_the_reply_on_the_page() -> None:
    expected = dict(EXAMPLES)
    assert len(COMMANDS) > len(expected) > 0
    async with LocalExecutor(slots=1, cache_mib=0) as executor:
        server = HttpServer(executor, HttpSettings("127.0.0.1", 0, drain_seconds=5, keys={"trainer": b"KEY"}))
        open_server = HttpServer(executor, HttpSettings("127.0.0.1", 0, drain_seconds=5))
        await server.start()
        await open_server.start()
        for command in COMMANDS:
            address = (server if "KEY@" in command else open_server).address
            words = shlex.split(command.replace("127.0.0.1:8080", address))
            process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
            printed, _ = await process.communicate()
            reply = json.loads(printed)
            assert reply["status"] == "Success", reply
            if command in expected:
                wanted = json.loads(expected[command])
                for answer in (reply, wanted):
                    assert answer["run_result"].pop("execution_time") > 0
                    assert answer.pop("executor_pod_name")
                assert reply == wanted
        await server.close()
        await open_server.close()


@pytest.mark.parametrize(
    "text",
    [
        f"at most {run_code.MAX_PROGRAM_BYTES >> 20} MiB",
        f"{run_code.MOST_FILES} files, {run_code.INPUT_BYTES >> 20} MiB together",
        f"keeps its first MiB{'' if run_code.OUTPUT_BYTES == 1 << 20 else '?'}",
        f"more than {http_server.BODIES_BYTES >> 20} MiB",
        f"`{http_server.TENANT_HEADER}`",
    ],
)
def test_the_page_has_the_limits_of_the_code(text: str) -> None:
    assert text in PAGE
