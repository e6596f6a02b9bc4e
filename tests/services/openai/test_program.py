"""The program as it is deployed: start, ready file, metrics, TLS to the search service, and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import pytest

from rstar.rpc.tls import own_certificate
from tests.support.certificates import Authority, write
from tests.support.rpc.scripted_search import ScriptedSearch
from tests.support.rpc.servicers import Context, free_port, running, service_process

ASK = {"model": "rstar", "messages": [{"role": "user", "content": "6 * 7?"}]}


async def test_after_sigterm_it_finishes_running_requests_refuses_new_ones_and_exits_with_0(tmp_path: Path) -> None:
    opened, ready, metrics = asyncio.Event(), tmp_path / "ready", free_port()

    async def wait(_: Context) -> None:
        await opened.wait()

    search = ScriptedSearch(before=wait)
    options = ("--port", "0", "--ready-file", str(ready), "--metrics-port", str(metrics), "--drain-seconds", "60")
    async with (
        running(search) as service,
        service_process("rstar_openai", "--search", service.address, *options) as program,
        aiohttp.ClientSession() as session,
    ):
        assert ready.read_text() == program.address
        url = f"http://{program.address}/v1/chat/completions"
        async with session.get(f"http://{program.address}/healthz") as reply:
            assert (reply.status, await reply.json()) == (200, {"status": "ok"})
        async with session.get(f"http://127.0.0.1:{metrics}/metrics") as reply:
            assert "rstar_openai_active" in await reply.text()
        asking = asyncio.ensure_future(session.post(url, json=ASK))
        await search.calls.arrived.wait()
        program.signal(signal.SIGTERM)
        status = 200
        while status == 200:  # until the signal has arrived
            async with session.get(f"http://{program.address}/healthz") as reply:
                status = reply.status
        async with session.post(url, json=ASK) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        opened.set()
        assert (await asking).status == 200
        assert await program.process.wait() == 0


async def test_it_calls_the_search_service_with_mutual_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for variable, file in write(Path(folder), Authority().issue()).items():
            monkeypatch.setenv(variable, file)
        certificate = own_certificate()
        assert certificate is not None
        async with (
            running(ScriptedSearch(), credentials=certificate.server_credentials()) as service,
            service_process("rstar_openai", "--search", service.address, "--port", "0") as program,
            aiohttp.ClientSession() as session,
            session.post(f"http://{program.address}/v1/chat/completions", json=ASK) as reply,
        ):
            assert reply.status == 200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--search", "nowhere"], "nowhere"),
        (["--search", "a:1", "--set", "rolouts=3"], "--set.rolouts: unknown key; did you mean rollouts?"),
        (["--search", "a:1", "--set", "rollouts=65"], "--set.rollouts: must be at most 64"),
        (["--search", "a:1", "--equivalence", "maths"], "unknown verifier 'maths'"),
        (["--search", "a:1", "--api-keys", "/nowhere/keys"], "/nowhere/keys"),
        (["--search", "a:1", "--api-key-env", "NO_SUCH_KEY"], "the variable is empty"),
    ],
)
def test_wrong_options_end_the_start_with_one_sentence(options: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "rstar_openai", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("openai: ")
    assert sentence in last
    assert "Traceback" not in done.stderr
