"""``rstar executor run`` and ``doctor`` as real processes: their text, JSON and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from rstar_executor import commands, sandbox
from rstar_executor.server.solver_checks import Check, first_failure

from tests.support.executor.processes import entries
from tests.support.executor.restricted import obstacle

RSTAR = (sys.executable, "-m", "rstar.cli.main", "executor")
PLAIN = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    err: str


def rstar(*arguments: str, stdin: bytes = b"", through: tuple[str, ...] = ()) -> CommandResult:
    done = subprocess.run(
        [*through, *RSTAR, *arguments], input=stdin, capture_output=True, timeout=220, env=PLAIN, check=False
    )
    return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())


def program(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_each_file_gives_one_line_of_json_in_the_order_of_the_arguments(tmp_path: Path) -> None:
    files = [
        program(tmp_path, "slow.py", "import time\ntime.sleep(0.3)\nprint('slow')"),
        program(tmp_path, "good.py", "print(6 * 7)"),
        program(tmp_path, "bad.py", "x = 1\nx / 0"),
        program(tmp_path, "endless.py", "while True: pass"),
    ]
    ended = rstar("run", *files, "--json", "--seconds", "1", "--slots", "2")
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [list(row) for row in rows] == [["file", "status", "reason", "stdout", "ms"]] * 4
    assert [row["file"] for row in rows] == files
    assert [row["status"] for row in rows] == ["ok", "ok", "exception", "timeout"]
    assert [row["stdout"] for row in rows] == ["slow\n", "42\n", "", ""]
    assert rows[2]["reason"] == "ZeroDivisionError: division by zero (line 2)"


def test_a_program_is_read_from_standard_input_with_or_without_a_byte_order_mark() -> None:
    ended = rstar("run", "-", "--json", stdin=b"\xef\xbb\xbfprint('here')")
    assert json.loads(ended.out)["stdout"] == "here\n"
    assert json.loads(ended.out)["file"] == "-"


@pytest.mark.slow
def test_linear_algebra_prints_what_cpython_prints(tmp_path: Path) -> None:
    files = [
        program(tmp_path, "matmul.py", "import numpy as np\na=np.ones((200,200))\nprint((a@a)[0,0])"),
        program(tmp_path, "dot.py", "import numpy as np\nx=np.ones(10001)\nprint(x@x)"),
    ]
    ended = rstar("run", *files, "--json")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    expected = [subprocess.run([sys.executable, file], capture_output=True, check=True).stdout for file in files]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert [row["stdout"].encode() for row in rows] == expected == [b"200.0\n", b"10001.0\n"]


def test_limits_reach_the_programs(tmp_path: Path) -> None:
    files = [
        program(tmp_path, "output.py", "print('x' * 200)"),
        program(tmp_path, "memory.py", "x = bytearray(200 << 20)"),
        program(tmp_path, "file.py", "open('f', 'wb').write(bytes(2 << 20))"),
    ]
    ended = rstar("run", *files, "--json", "--output-bytes", "100", "--memory-mib", "100", "--file-mib", "1")
    statuses = [json.loads(line)["status"] for line in ended.out.splitlines()]
    assert statuses == ["output_limit", "memory", "exception"]


def test_a_file_that_is_not_utf8_is_rejected_and_the_others_run(tmp_path: Path) -> None:
    files = [program(tmp_path, "bytes.py", b"print('\xff')"), program(tmp_path, "good.py", "print(1)")]
    ended = rstar("run", *files, "--json")
    rejected, good = (json.loads(line) for line in ended.out.splitlines())
    assert ended.code == 0
    assert (rejected["status"], rejected["stdout"]) == ("rejected", "")
    assert "UTF-8" in rejected["reason"]
    assert good["stdout"] == "1\n"


def test_a_file_that_cannot_be_read_is_refused_before_anything_runs(tmp_path: Path) -> None:
    good = program(tmp_path, "good.py", "print(1)")
    for bad in (str(tmp_path / "missing.py"), str(tmp_path)):
        ended = rstar("run", good, bad)
        assert (ended.code, ended.out) == (2, "")
        assert bad in ended.err
        assert len(ended.err.splitlines()) == 1


def test_an_infinite_limit_is_refused(tmp_path: Path) -> None:
    ended = rstar("run", program(tmp_path, "good.py", "print(1)"), "--seconds", "inf")
    assert (ended.code, ended.out) == (2, "")
    assert "limits.seconds is inf" in ended.err


def test_tracebacks_are_shown_on_request(tmp_path: Path) -> None:
    file = program(tmp_path, "bad.py", "def f(): return 1 / 0\nf()")
    ended = rstar("run", file, "--tracebacks")
    assert 'File "<program>", line 2, in <module>' in ended.out
    (row,) = [json.loads(line) for line in rstar("run", file, "--tracebacks", "--json").out.splitlines()]
    assert row["traceback"].endswith("ZeroDivisionError: division by zero\n")


def test_a_line_of_text_holds_no_control_characters(tmp_path: Path) -> None:
    files = [
        program(tmp_path, "escape.py", "print('\\x1b[2J\\x1b]0;title\\x07gone')\nprint('more')"),
        program(tmp_path, "raise.py", "raise ValueError('\\x1b[31m')"),
    ]
    ended = rstar("run", *files)
    assert ended.code == 0
    assert all(character.isprintable() for line in ended.out.splitlines() for character in line)
    first, second = ended.out.splitlines()
    assert first.startswith("ok")
    assert "gone (+1 lines)" in first
    assert second.startswith("exception")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_results_are_printed_at_once_and_a_signal_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    files = [program(tmp_path, "quick.py", "print(1)"), program(tmp_path, "endless.py", "while True: pass")]
    process = subprocess.Popen(
        [*RSTAR, "run", *files, "--json", "--seconds", "60"],
        stdout=subprocess.PIPE,
        env={**PLAIN, "TMPDIR": str(scratch)},
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["stdout"] == "1\n"
        process.send_signal(number)
        assert process.stdout.read() == b""
        assert process.wait() == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    finally:
        process.kill()
    assert entries(scratch) == []


@pytest.mark.slow
def test_the_doctor_names_each_layer_and_what_it_covers() -> None:
    ended = rstar("doctor", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert (report["contained"], report["missing"]) == (True, "")
    checks = {check["module"]: (check["works"], check["installed"]) for check in report["checks"]}
    assert checks == dict.fromkeys(("numpy", "sympy", "scipy"), (True, True))
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert {"seccomp", "landlock", "limits"} <= set(layers)
    for layer in layers.values():
        assert layer["covers"]
        assert layer["detail"]
        assert layer["in_force"] or not layer["required"]
        assert layer["in_force"] == (not layer["remedy"])


def test_the_doctor_shows_layers_and_programs_of_a_solver_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("numpy", works=True, installed=True, detail="runs"), Check("scipy", False, False, "is absent")]
    commands._show([sandbox.layer("landlock", False, "none")], "", checks, json=False)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("landlock", "NO, and needed", "ok  runs", "NO  is absent"))


def test_a_program_of_a_solver_that_fails_is_a_failure_of_the_doctor_unless_its_module_is_absent() -> None:
    fine = Check("numpy", works=True, installed=True, detail="fine")
    absent = Check("scipy", works=False, installed=False, detail="absent")
    broken = Check("sympy", works=False, installed=True, detail="a program with sympy does not run: timeout")
    assert first_failure([fine, absent]) == ""
    assert first_failure([fine, absent, broken]) == broken.detail


def test_the_doctor_fails_without_a_required_layer_and_no_program_runs() -> None:
    if reason := obstacle("no-landlock"):
        pytest.skip(reason)
    through = (sys.executable, "-m", "tests.support.executor.restricted", "no-landlock")
    ended = rstar("doctor", "--json", through=through)
    assert ended.code == 1
    report = json.loads(ended.out)
    assert not report["contained"]
    (landlock,) = [layer for layer in report["layers"] if layer["name"] == "landlock"]
    assert not landlock["in_force"]
    assert "lsm=" in landlock["remedy"]
    assert "landlock" in ended.err
    refused = rstar("run", "-", stdin=b"print(1)", through=through)
    assert (refused.code, refused.out) == (1, "")
    assert "rstar executor doctor" in refused.err
