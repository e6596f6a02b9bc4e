"""SandboxFusion's ``POST /run_code``, for Python: requests in, scripts out, and results back into replies.

Pure functions on plain data. A bad request raises ``BadRequestError`` with one sentence. What a program does is never an
error of the request: the reply says how it ended, as SandboxFusion's does.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any, Final

from rstar.interfaces import ExecutionLimits, ExecutionStatus
from rstar_executor.server.programs import MAX_PROGRAM_BYTES
from rstar_executor.server.scripts import ScriptExecution
from rstar_executor.warden.script import Script

LANGUAGES: Final = (
    *("python", "cpp", "nodejs", "go", "go_test", "java", "php", "csharp", "bash", "typescript", "sql", "rust", "cuda"),
    *("lua", "R", "perl", "D_ut", "ruby", "scala", "julia", "pytest", "junit", "kotlin_script", "jest", "verilog"),
    *("python_gpu", "lean", "swift", "racket"),
)
"""The languages of SandboxFusion. This executor runs Python; the others are a ``SandboxError``."""

BODY_BYTES: Final = 32 << 20
INPUT_BYTES: Final = 16 << 20
"""Most bytes of standard input and files of a request together, and of the files of its reply."""

MOST_FILES: Final = 256
OUTPUT_BYTES: Final = 1 << 20
_FILE_MIB: Final = 64
_PATH_BYTES: Final = 1024
_NAME_BYTES: Final = 255
_DEFAULT_SECONDS: Final = 10.0
_IGNORED: Final = "IGNORE_THIS_FILE"


class BadRequestError(ValueError):
    """A request that cannot be run; ``status`` is the code of the answer."""

    def __init__(self, sentence: str, status: int = 422) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class RunCodeRequest:
    """One request: a script and its limits. ``fetch_names`` are the names that the caller gave to ``script.fetch``.

    ``compile_seconds``: the caller's ``compile_timeout``. Python has nothing to compile, so it limits the wait for a slot.
    """

    language: str
    code: str
    script: Script
    limits: ExecutionLimits
    compile_seconds: float
    fetch_names: tuple[str, ...]


def read_request(body: bytes) -> RunCodeRequest:
    """Return the request in a body. Raises ``BadRequestError``."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}", 400) from None
    if not isinstance(request, dict):
        raise BadRequestError("the body is no JSON object; send one with code and language")
    language = _text(request, "language")
    if language not in LANGUAGES:
        raise BadRequestError(f"language is {language[:40]!r}; this executor runs 'python'")
    code = _text(request, "code")
    if len(code) > MAX_PROGRAM_BYTES:
        raise BadRequestError(
            f"code has {len(code)} characters, more than {MAX_PROGRAM_BYTES}; move its data into stdin or files", 413
        )
    stdin = _stdin(request)
    files, size = _files(request)
    size += len(stdin or b"")
    if size > INPUT_BYTES:
        raise BadRequestError(f"stdin and files have {size} bytes together, more than {INPUT_BYTES}", 413)
    names = _fetched(request)
    return RunCodeRequest(
        language,
        code,
        Script(
            None if stdin is None else base64.b64encode(stdin).decode(),
            files,
            [_path(name, "fetch_files") for name in names],
            INPUT_BYTES if names else 0,
        ),
        ExecutionLimits(_seconds(request, "run_timeout"), _memory_mib(request), OUTPUT_BYTES, _FILE_MIB),
        _seconds(request, "compile_timeout"),
        names,
    )


def unsupported(language: str) -> dict[str, Any]:
    """Return the reply to a request in another language."""
    return _reply("SandboxError", f"this executor runs python, not {language}; send other languages to another sandbox")


def reply(request: RunCodeRequest, execution: ScriptExecution) -> dict[str, Any]:
    """Return SandboxFusion's reply for the result of a request."""
    seconds = execution.milliseconds / 1000
    if execution.status is ExecutionStatus.INTERNAL:
        return _reply("SandboxError", execution.reason, _result("Error", seconds, None, "", execution.reason))
    finished = execution.exit_code is not None
    status = "Finished" if finished else "TimeLimitExceeded"
    run_result = _result(status, seconds, execution.exit_code, execution.stdout, execution.stderr)
    files = {
        request.fetch_names[index]: base64.b64encode(data).decode() for index, data in sorted(execution.files.items())
    }
    message = _remarks(request, execution)
    return _reply("Success" if execution.exit_code == 0 else "Failed", message, run_result, files)


def _remarks(request: RunCodeRequest, execution: ScriptExecution) -> str:
    remarks = [f"an output was cut after {OUTPUT_BYTES} bytes"] if execution.cut else []
    remarks += [
        f"{request.fetch_names[index]} was left out: fetched files may have {INPUT_BYTES} bytes together"
        for index in execution.too_large
    ]
    return "; ".join(remarks)


def _reply(
    status: str, message: str, run_result: dict[str, Any] | None = None, files: dict[str, str] | None = None
) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "compile_result": None,
        "run_result": run_result,
        "executor_pod_name": None,
        "files": files or {},
    }


def _result(status: str, seconds: float, code: int | None, stdout: str, stderr: str) -> dict[str, Any]:
    return {
        "status": status,
        "execution_time": seconds,
        "return_code": code,
        "stdout": stdout,
        "stderr": stderr,
    }


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise BadRequestError(f"{name} is missing; give a string" if value is None else f"{name} must be a string")
    return value


def _stdin(request: dict[str, Any]) -> bytes | None:
    if request.get("stdin") is None:
        return None
    try:
        return _text(request, "stdin").encode()
    except UnicodeEncodeError:
        raise BadRequestError("stdin has a lone surrogate, which no UTF-8 text can hold") from None


def _seconds(request: dict[str, Any], name: str) -> float:
    value = request.get(name, _DEFAULT_SECONDS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise BadRequestError(f"{name} must be a number of seconds above 0")
    return float(value)


def _memory_mib(request: dict[str, Any]) -> int:
    """Return the asked memory; below 1 SandboxFusion sets no limit, so the executor's own maximum holds."""
    value = request.get("memory_limit_MB", -1)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or int(value) != value:
        raise BadRequestError("memory_limit_MB must be a whole number; -1 is for the executor's own limit")
    return int(value) if value > 0 else 1 << 30


def _files(request: dict[str, Any]) -> tuple[list[tuple[str, str]], int]:
    """Return paths with base64 contents, and the bytes of all contents; ``null`` contents and ignored names are left out."""
    given = request.get("files") or {}
    if not isinstance(given, dict) or not all(data is None or isinstance(data, str) for data in given.values()):
        raise BadRequestError("files must be an object of paths and contents in base64")
    if len(given) > MOST_FILES:
        raise BadRequestError(f"files has {len(given)} entries, more than {MOST_FILES}", 413)
    files: dict[str, str] = {}
    size = 0
    for name, data in given.items():
        if data is None or _IGNORED in name:
            continue
        path = _path(name, "files")
        try:
            size += len(base64.b64decode(data))
        except (binascii.Error, ValueError):
            raise BadRequestError(f"files: the contents of {_shown(name)} are not base64") from None
        if path in files:
            raise BadRequestError(f"files: {_shown(name)} is given twice")
        files[path] = data
    folders = {path[:end] for path in files for end, letter in enumerate(path) if letter == "/"}
    if both := sorted(folders & files.keys()):
        raise BadRequestError(f"files: {_shown(both[0])} is a file and a folder")
    return list(files.items()), size


def _fetched(request: dict[str, Any]) -> tuple[str, ...]:
    names = request.get("fetch_files") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRequestError("fetch_files must be a list of paths")
    if len(names) > MOST_FILES:
        raise BadRequestError(f"fetch_files has {len(names)} entries, more than {MOST_FILES}", 413)
    return tuple(dict.fromkeys(names))


def _path(name: str, where: str) -> str:
    """Return a relative path of plain names. Raises ``BadRequestError`` for one that leaves the program's folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or not parts or ".." in parts or name.endswith("/"):
        raise BadRequestError(f"{where}: {_shown(name)} must be a path below the program's folder, without '..'")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        sizes = [_PATH_BYTES]
    if "\0" in name or max(sizes) > _NAME_BYTES or sum(sizes) + len(sizes) > _PATH_BYTES:
        raise BadRequestError(f"{where}: {_shown(name)} is no path that a file system takes")
    return "/".join(parts)


def _shown(name: str) -> str:
    return ascii(name[:80])
