"""The executor over real HTTP, with real programs: SandboxFusion's replies, refusals, cancellation, fairness and drain."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from rstar_executor.server import http_server
from rstar_executor.server.http_server import HttpServer, HttpSettings
from rstar_executor.server.local_executor import LocalExecutor
from rstar_executor.warden.script import Script

from rstar.interfaces import ExecutionLimits, ExecutionStatus
from tests.support.certificates import Authority
from tests.support.executor.canary import LIGHT
from tests.support.executor.hostile import CORPUS, load
from tests.support.executor.processes import alive, children, entries, inside, only_idle_processes_left, running_program
from tests.support.executor.restricted import obstacle
from tests.support.paths import ROOT

ENDLESS = "while True: pass"
Reply = tuple[int, dict[str, Any]]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Client:
    """Sends requests to one server."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session, self.base = session, base

    async def run(self, code: str, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
        request = {"code": code, "language": "python", **fields}
        async with self.session.post(f"{self.base}/run_code", json=request, headers=headers) as response:
            return response.status, await response.json()

    async def result(self, code: str, **fields: Any) -> dict[str, Any]:
        """Return the ``run_result`` of a program without its time, and ``status`` and ``files`` of the reply."""
        status, reply = await self.run(code, **fields)
        assert status == 200, reply
        run_result = reply["run_result"]
        assert run_result.pop("execution_time") >= 0
        return {"reply": reply["status"], "files": reply["files"], **run_result}


@pytest.fixture
async def server(executor: LocalExecutor) -> AsyncIterator[HttpServer]:
    server = HttpServer(executor, HttpSettings("127.0.0.1", 0, drain_seconds=5))
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def client(server: HttpServer) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, f"http://{server.address}")


async def queued(executor: LocalExecutor, calls: int) -> None:
    """Wait until so many calls wait for a slot."""
    while True:
        if len(executor._slots._queue) == calls:
            return
        await asyncio.sleep(0.01)


def finished(code: int, stdout: str = "", stderr: str = "") -> dict[str, Any]:
    reply = "Failed" if code else "Success"
    return {"reply": reply, "files": {}, "status": "Finished", "return_code": code, "stdout": stdout, "stderr": stderr}


ZERO_DIVISION = """Traceback (most recent call last):
  File "<program>", line 2, in <module>
    1 / 0
    ~~^~~
ZeroDivisionError: division by zero
"""
SYNTAX = """  File "<program>", line 1
    x = (
        ^
SyntaxError: '(' was never closed
"""


async def test_programs_end_as_under_sandbox_fusion(client: Client) -> None:
    result = client.result
    assert await result("print('é', 6 * 7)") == finished(0, "é 42\n")
    assert await result("print(1)\n1 / 0") == finished(1, "1\n", ZERO_DIVISION)
    assert await result("x = (") == finished(1, "", SYNTAX)
    assert await result("import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.exit(3)") == finished(3, "a\n", "b\n")
    assert await result("import sys; sys.exit('no')") == finished(1, "", "no\n")
    assert await result("import os; os.write(2, b'e'); os._exit(7)") == finished(7, "", "e")
    assert await result("import os; print(1, flush=True); os._exit(0)") == finished(0, "1\n")
    assert await result("import os; os.abort()") == finished(-6)
    assert await result("raise KeyboardInterrupt()") | {"stderr": ""} == finished(130)
    assert await result("import os; os.write(1, b'a\\xff\\xfeb')") == finished(0, "a\ufffd\ufffdb")
    memory = await result("x = [0] * 10**9", memory_limit_MB=128)
    assert memory | {"stderr": ""} == finished(1)
    assert memory["stderr"].endswith("MemoryError\n")
    assert await result("print(input() == 'x' * 10**7)", stdin="x" * 10**7) == finished(0, "True\n")
    assert await result("print(len(bytearray(600 << 20)))") == finished(0, f"{600 << 20}\n")


async def test_a_program_that_does_not_finish_keeps_its_output(client: Client) -> None:
    status, reply = await client.run("print('begun', flush=True)\nwhile True: pass", run_timeout=0.5)
    assert (status, reply["status"], reply["message"]) == (200, "Failed", "")
    result = reply["run_result"]
    assert (result["status"], result["return_code"], result["stdout"]) == ("TimeLimitExceeded", None, "begun\n")
    assert result["execution_time"] >= 0.5


async def test_a_flood_is_cut_and_does_not_fail_the_program(client: Client) -> None:
    code = "import sys\nfor _ in range(40): print('x' * 65_535); print('y' * 65_535, file=sys.stderr)"
    _, reply = await client.run(code)
    assert reply["status"] == "Success"
    assert reply["message"] == "an output was cut after 1048576 bytes"
    assert (len(reply["run_result"]["stdout"]), len(reply["run_result"]["stderr"])) == (1 << 20, 1 << 20)


async def test_another_language_is_an_error_of_the_sandbox(client: Client) -> None:
    for language in ("cpp", "pytest", "python_gpu"):
        status, reply = await client.run("int main() {}", language=language)
        assert (status, reply["status"], reply["run_result"]) == (200, "SandboxError", None)
        assert reply["message"].startswith(f"this executor runs python, not {language}")


async def test_standard_input_is_read_in_every_way(client: Client) -> None:
    text = "3\n1 2\né\n\nlast"
    code = "import sys\nprint(input(), sys.stdin.readline().split(), repr(sys.stdin.read()))\ninput()"
    result = await client.result(code, stdin=text)
    assert result["stdout"] == f"3 ['1', '2'] {text[6:]!r}\n"
    assert result["stderr"].endswith("EOFError: EOF when reading a line\n")
    for code in (
        "import sys; print(sys.stdin.read(), end='')",
        "import sys; sys.stdout.buffer.write(sys.stdin.buffer.readline() + sys.stdin.buffer.read())",
        "print(open(0).read(), end='')",
        "import sys\nfor line in sys.stdin: print(line, end='')",
        "import os\nprint(os.read(0, 99).decode(), end='')",
        "import os\nif os.fork() == 0: print(open(0).read(), end='')\nelse: os.wait()",
    ):
        assert await client.result(code, stdin=text) == finished(0, text), code
    assert await client.result("import sys; print(repr(sys.stdin.read()))") == finished(0, "''\n")
    assert await client.result("import sys; print(repr(sys.stdin.read()))", stdin="") == finished(0, "''\n")


async def test_standard_input_cannot_be_changed(client: Client) -> None:
    code = """
import mmap, os
for change in (lambda: os.write(0, b'x'), lambda: os.ftruncate(0, 0), lambda: os.ftruncate(0, 9), lambda: mmap.mmap(0, 5)):
    try:
        change()
        print('changed')
    except OSError:
        pass
print(input())
"""
    assert await client.result(code, stdin="hello") == finished(0, "hello\n")


async def test_files_are_found_and_fetched(client: Client) -> None:
    code = """
import helper
print(helper.x, open('data/in.txt').read())
out = open('data/out.bin', 'wb')
out.write(bytes(range(256)))
"""
    result = await client.result(
        code,
        files={"helper.py": encoded("x = 5"), "./data/in.txt": encoded("in"), "none": None},
        fetch_files=["data/out.bin", "./helper.py", "missing", "data"],
    )
    files = {"data/out.bin": base64.b64encode(bytes(range(256))).decode(), "./helper.py": encoded("x = 5")}
    assert result == {**finished(0, "5 in\n"), "files": files}
    assert await client.result("import os; print(os.listdir())") == finished(0, "[]\n")


async def test_what_a_program_links_to_is_not_fetched(client: Client) -> None:
    code = """
import os, sys
os.symlink(sys.executable, 'python')
os.symlink('/etc', 'etc')
os.symlink('real', 'link')
open('real', 'w').write('x')
if os.fork() == 0:
    os.setsid()
    while True:
        for k in range(100):
            open('swapped', 'w').close()
            os.remove('swapped')
            os.symlink('/etc/hostname', 'swapped')
            os.remove('swapped')
"""
    result = await client.result(code, fetch_files=["python", "etc/hostname", "link", "real", "swapped"])
    assert result["files"].keys() <= {"real", "swapped"}
    assert result["files"].get("swapped", "") == ""


async def test_files_are_fetched_after_a_failure_too(client: Client) -> None:
    code = "open('a', 'w').write('1')\nwhile True: pass"
    result = await client.result(code + "", run_timeout=0.5, fetch_files=["a"])
    assert (result["status"], result["files"]) == ("TimeLimitExceeded", {"a": encoded("1")})
    large = "open('a', 'wb').write(bytes(9 << 20)); open('b', 'wb').write(bytes(9 << 20))"
    _, reply = await client.run(large, fetch_files=["a", "b"])
    assert list(reply["files"]) == ["a"]
    assert reply["message"].startswith("b was left out")


async def test_a_program_leaves_by_the_way_of_python(client: Client) -> None:
    code = """
import atexit, sys, threading, time
class Last:
    def __del__(self): print('deleted')
last = Last()
atexit.register(print, 'handler')
threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()
sys.stderr.write('partial')
sys.excepthook = lambda kind, error, frames: print('hook', error)
raise ValueError('x')
"""
    assert await client.result(code) == finished(1, "hook x\nthread\nhandler\ndeleted\n", "partial")
    child = "import os\nif os.fork() == 0: raise ValueError\nprint(os.waitstatus_to_exitcode(os.wait()[1]))"
    assert (await client.result(child))["stdout"] == "1\n"


SAMPLE = (
    *("processes", "exits", "files/links_left_behind", "files/odd_names", "network/every_family", "output", "state"),
)


@pytest.mark.parametrize("part", SAMPLE)
async def test_hostile_programs_leave_nothing_behind(part: str, client: Client, executor: LocalExecutor) -> None:
    async def canary() -> dict[str, Any]:
        return await client.result(LIGHT, memory_limit_MB=512)

    paths = sorted((CORPUS / part).glob("*.py"))[:5] if (CORPUS / part).is_dir() else [CORPUS / f"{part}.py"]
    before = await canary()
    assert before["reply"] == "Success"
    for path in paths:
        program = load(path)
        fields = {"run_timeout": min(program.limits.seconds, 2.0), "memory_limit_MB": program.limits.memory_mib}
        status, reply = await client.run(program.text, fetch_files=["file", "a/b"], stdin="input", **fields)
        assert (status, reply["status"]) in {(200, "Success"), (200, "Failed")}, path
        if program.expected == {ExecutionStatus.OK}:
            assert reply["status"] == "Success", path
        assert await canary() == before, path
    assert await only_idle_processes_left(executor)


async def test_a_bad_request_is_refused_with_one_sentence(client: Client) -> None:
    assert await client.run("", run_timeout=-1) == (
        422,
        {"detail": "run_timeout must be a number of seconds above 0"},
    )
    for method, path, status in (("GET", "/run_code", 405), ("POST", "/run_jupyter", 404)):
        async with client.session.request(method, client.base + path) as response:
            assert response.status == status
            assert (await response.json())["detail"]
    async with client.session.post(f"{client.base}/run_code", data=b"{") as response:
        assert response.status == 400
    async with client.session.post(f"{client.base}/run_code", data=bytes((32 << 20) + 1)) as response:
        assert response.status == 413
    async with client.session.get(f"{client.base}/v1/ping") as response:
        assert await response.json() == "pong"


async def test_requests_at_once_get_their_own_results() -> None:
    async with LocalExecutor(slots=2, cache_mib=0) as executor, aiohttp.ClientSession() as session:
        server = HttpServer(executor, HttpSettings("127.0.0.1", 0, drain_seconds=5))
        await server.start()
        client = Client(session, f"http://{server.address}")
        calls = [client.result("print(int(input()) ** 2)", stdin=str(k), compile_timeout=60) for k in range(48)]
        assert await asyncio.gather(*calls) == [finished(0, f"{k * k}\n") for k in range(48)]
        await server.close()


async def test_a_client_that_leaves_ends_its_program(client: Client, executor: LocalExecutor) -> None:
    before = inside(executor)
    call = asyncio.create_task(client.run(ENDLESS, run_timeout=60))
    _, program = await running_program(executor, before)
    call.cancel()
    assert await client.result("print('next')", compile_timeout=60) == finished(0, "next\n")
    assert not alive(program)


async def test_a_request_that_gets_no_slot_in_time_can_be_sent_again(client: Client, executor: LocalExecutor) -> None:
    before = inside(executor)
    call = asyncio.create_task(client.run(ENDLESS, run_timeout=60))
    await running_program(executor, before)
    async with client.session.post(
        f"{client.base}/run_code", json={"code": "", "language": "python", "compile_timeout": 0.2}
    ) as response:
        assert (response.status, response.headers["Retry-After"]) == (504, "1")
        assert "no slot became free within compile_timeout (0.2 s)" in (await response.json())["detail"]
    call.cancel()


async def test_a_full_queue_is_refused_and_tenants_take_turns() -> None:
    async with LocalExecutor(slots=1, cache_mib=0, waiting_per_slot=4) as executor, aiohttp.ClientSession() as session:
        server = HttpServer(executor, HttpSettings("127.0.0.1", 0, drain_seconds=5))
        await server.start()
        client = Client(session, f"http://{server.address}")
        before = inside(executor)
        first = asyncio.create_task(client.run(ENDLESS, run_timeout=60))
        await running_program(executor, before)
        ended: list[str] = []

        async def call(tenant: str) -> None:
            status, _ = await client.run("", {http_server.TENANT_HEADER: tenant}, compile_timeout=60)
            ended.append(tenant if status == 200 else str(status))

        calls = []
        for tenant in ("many", "many", "many", "few"):
            calls.append(asyncio.create_task(call(tenant)))
            await queued(executor, len(calls))
        status, reply = await client.run("")
        assert status == 429
        assert reply["detail"].startswith("4 batches wait for 1 slots")
        first.cancel()
        await asyncio.gather(*calls)
        assert ended[:2] == ["many", "few"]
        await server.close()


async def test_a_key_is_needed_where_there_are_keys(executor: LocalExecutor) -> None:
    server = HttpServer(executor, HttpSettings("127.0.0.1", 0, drain_seconds=5, keys={"lab-a": b"secret"}))
    await server.start()
    async with aiohttp.ClientSession() as session:
        client = Client(session, f"http://{server.address}")
        status, reply = await client.run("")
        assert (status, reply["detail"][:15]) == (401, "the API key is ")
        assert (await client.run("", {"Authorization": "Bearer secret"}))[0] == 200
        assert (await Client(session, f"http://any:secret@{server.address}").run(""))[0] == 200
        async with session.get(f"{client.base}/healthz") as response:
            assert response.status == 200
    await server.close()


async def test_an_executor_that_is_closed_starts_nothing_again() -> None:
    executor = LocalExecutor(slots=1)
    await executor.start()
    before = inside(executor)
    call = asyncio.create_task(executor.run_script(ENDLESS, Script(None, (), (), 0), ExecutionLimits(seconds=60)))
    await running_program(executor, before)
    await executor.close()
    execution = await call
    assert (execution.status, execution.reason) == (ExecutionStatus.INTERNAL, "the executor was stopped")
    assert executor.warden_pids() == []


async def test_a_lost_warden_costs_a_second_try(client: Client, executor: LocalExecutor) -> None:
    before = inside(executor)
    call = asyncio.create_task(client.run(f"print('done')\n{ENDLESS}", run_timeout=2))
    warden, _ = await running_program(executor, before)
    os.kill(warden, signal.SIGKILL)
    status, reply = await call
    assert (status, reply["run_result"]["status"]) == (200, "TimeLimitExceeded")


async def test_requests_leave_no_descriptor_and_no_file(client: Client, executor: LocalExecutor) -> None:
    def descriptors() -> list[int]:
        wardens = [pid for outside in executor.warden_pids() for pid in children(outside)]
        return [len(entries(Path(f"/proc/{pid}/fd"))) for pid in wardens]

    async def requests(number: int) -> None:
        for k in range(number):
            fields = {"stdin": "x" * 10**5, "files": {"d/in": encoded("in")}, "fetch_files": ["d/in", "none"]}
            code = ("print(input())", "1 / 0", "import os; os.abort()")[k % 3]
            assert (await client.result(code, **fields))["files"] == {"d/in": encoded("in")}

    await requests(3)
    before = descriptors()
    await requests(30)
    assert descriptors() == before
    assert (await client.result("import os; print(os.listdir())"))["stdout"] == "[]\n"


@contextlib.asynccontextmanager
async def server_process(folder: Path, *through: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Client]]:
    """Start the service as a process, ``through`` another command where one is given."""
    ready = folder / "ready"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "rstar_executor", "--slots", "2", "--port", "0", "--ready-file", str(ready)]
    process = await asyncio.create_subprocess_exec(*through, *command, "--http-port", str(port), cwd=ROOT)
    try:
        while True:
            if ready.exists():
                break
            assert process.returncode is None
            await asyncio.sleep(0.05)
        async with aiohttp.ClientSession() as session:
            yield process, Client(session, f"http://127.0.0.1:{port}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_drain_finishes_requests_in_progress(tmp_path: Path) -> None:
    async with server_process(tmp_path) as (process, client):
        code = "import time\ntime.sleep(0.1)\nprint(input())"
        calls = [asyncio.ensure_future(client.run(code, stdin=str(k), compile_timeout=60)) for k in range(60)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        process.send_signal(signal.SIGTERM)
        replies = await asyncio.gather(*calls)
        assert [reply["run_result"]["stdout"] for _, reply in replies] == [f"{k}\n" for k in range(60)]
        assert await process.wait() == 0


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file of the service that every user may read and write, in a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        path = Path(folder, "secret")
        path.write_text("secret")
        path.chmod(0o666)
        yield path


@pytest.mark.parametrize("setting", ["ordinary", "container"])
async def test_scripts_are_contained_in_a_container_too(setting: str, secret: Path) -> None:
    if reason := obstacle(setting):
        pytest.skip(reason)
    code = f"""
import os
for change in (
    lambda: os.link({str(secret)!r}, 'hard'),
    lambda: os.symlink({str(secret)!r}, 'soft'),
    lambda: os.symlink({str(secret.parent)!r}, 'folder'),
    lambda: os.write(0, b'x'),
    lambda: open('/proc/self/fd/0', 'w').write('x'),
    lambda: print(open({str(secret)!r}).read()),
):
    try:
        change()
    except OSError:
        pass
print(input())
open('out', 'w').write(open('d/in').read())
"""
    through = (sys.executable, "-m", "tests.support.executor.restricted", setting)
    async with server_process(secret.parent, *through) as (_, client):
        fetched = ["hard", "soft", "folder/secret", "out"]
        result = await client.result(code, stdin="hi", files={"d/in": encoded("in")}, fetch_files=fetched)
        assert result == {**finished(0, "hi\n"), "files": {"out": encoded("in")}}
        assert await client.result("import os; print(os.listdir())") == finished(0, "[]\n")


async def test_a_certificate_gives_https(executor: LocalExecutor, tmp_path: Path) -> None:
    authority = Authority()
    pem = authority.issue(names=("sandbox.test",), usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(pem.certificate)
    key.write_bytes(pem.key)
    server = HttpServer(executor, HttpSettings("127.0.0.1", 0, 5, certificate=certificate, key=key))
    await server.start()
    trust = ssl.create_default_context(cadata=authority.pem.decode())
    async with aiohttp.ClientSession() as session:
        request = {"code": "print(1)", "language": "python"}
        url = f"https://{server.address}/run_code"
        async with session.post(url, json=request, ssl=trust, server_hostname="sandbox.test") as response:
            assert (await response.json())["status"] == "Success"
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(url, json=request)
    await server.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--http-keys", "keys"], "--http-keys, --http-cert and --http-cert-key need --http-port"),
        (["--http-port", "0", "--http-cert-key", "key"], "--http-cert-key needs --http-cert"),
        (["--http-port", "0", "--http-keys", "missing"], "missing"),
        (["--http-port", "0", "--http-cert", __file__], "cannot be used"),
    ],
)
async def test_wrong_options_end_the_start_with_one_sentence(options: list[str], sentence: str) -> None:
    code, printed = await ended(*options)
    assert code == 2
    assert len(printed) == 1
    assert printed[0].startswith("executor: ")
    assert sentence in printed[0]


async def test_a_taken_port_ends_the_start_with_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, printed = await ended("--http-port", str(taken.getsockname()[1]))
    assert code == 2
    assert printed[-1].startswith("executor: cannot listen for HTTP on 127.0.0.1:")
    assert printed[-1].endswith("Address already in use; choose another --http-port or --host")
    assert "Traceback" not in printed


async def ended(*options: str) -> tuple[int | None, list[str]]:
    """Start the service, wait for its end, and return its exit code and the lines of its standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rstar_executor", "--port", "0", *options), stderr=asyncio.subprocess.PIPE
    )
    _, printed = await process.communicate()
    return process.returncode, printed.decode().splitlines()
