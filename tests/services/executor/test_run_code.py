"""Requests of SandboxFusion's ``/run_code``: each is read into a script that stays in its folder, or refused with one sentence."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rstar_executor.server import scripts
from rstar_executor.server.api_keys import read_keys, tenant_of
from rstar_executor.server.run_code import INPUT_BYTES, MOST_FILES, BadRequestError, read_request
from rstar_executor.warden.scratch import Scratch
from rstar_executor.warden.script import Script

from rstar.interfaces import ExecutionStatus

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["code", "language", "stdin", "files", "fetch_files", "run_timeout", "compile_timeout", "memory_limit_MB", "args"]
)
PATHS = st.lists(st.sampled_from(["a", "b", ".", "..", "", "/", "é", "\0", "x" * 300]), max_size=5).map("/".join)


def body(**fields: Any) -> bytes:
    return json.dumps({"code": "print(1)", "language": "python", **fields}).encode()


def refusal(request: bytes) -> BadRequestError:
    with pytest.raises(BadRequestError) as caught:
        read_request(request)
    return caught.value


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
def test_any_body_is_read_or_refused_with_one_sentence(request: bytes) -> None:
    try:
        read_request(request)
    except BadRequestError as refused:
        error = refused
    else:
        return
    assert str(error)
    assert 400 <= error.status < 500


@given(st.dictionaries(NAMES, VALUES))
def test_any_field_is_read_or_refused_with_one_sentence(fields: dict[str, Any]) -> None:
    try:
        request = read_request(body(**fields))
    except BadRequestError as refused:
        sentence = str(refused)
    else:
        assert request.limits.seconds > 0
        assert request.limits.memory_mib > 0
        assert len(request.script.fetch) == len(request.fetch_names)
        return
    assert sentence


@given(st.dictionaries(PATHS, st.just("eA==") | st.none(), max_size=4), st.lists(PATHS, max_size=4))
def test_every_accepted_path_stays_below_the_programs_folder(files: dict[str, str | None], fetched: list[str]) -> None:
    try:
        script = read_request(body(files=files, fetch_files=fetched)).script
    except BadRequestError:
        return
    paths = [path for path, _ in script.files]
    assert len(paths) == len(set(paths))
    for path in [*paths, *script.fetch]:
        parts = path.split("/")
        assert all(part not in ("", ".", "..") and "\0" not in part for part in parts)
        assert not any(path.startswith(f"{other}/") for other in paths if path in paths)


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"language": "perl6"}, 422, "this executor runs 'python'"),
        ({"language": None}, 422, "language is missing"),
        ({"code": 3}, 422, "code must be a string"),
        ({"code": "x" * (1 << 20) + "x"}, 413, "code has"),
        ({"run_timeout": 0}, 422, "run_timeout must be a number of seconds above 0"),
        ({"run_timeout": True}, 422, "run_timeout must be"),
        ({"compile_timeout": "1"}, 422, "compile_timeout must be"),
        ({"memory_limit_MB": 1.5}, 422, "memory_limit_MB must be a whole number"),
        ({"stdin": 7}, 422, "stdin must be a string"),
        ({"stdin": "\ud800"}, 422, "stdin has a lone surrogate"),
        ({"stdin": "x" * (INPUT_BYTES + 1)}, 413, "stdin and files have"),
        ({"files": ["a"]}, 422, "files must be an object"),
        ({"files": {"a": "é"}}, 422, "are not base64"),
        ({"files": {"a": "eA==", "a/b": "eA=="}}, 422, "'a' is a file and a folder"),
        ({"files": {"a": "eA==", "./a": "eA=="}}, 422, "'./a' is given twice"),
        ({"files": {str(k): "" for k in range(MOST_FILES + 1)}}, 413, "files has 257 entries"),
        ({"files": {"/etc/passwd": ""}}, 422, "must be a path below the program's folder"),
        ({"fetch_files": ["../x"]}, 422, "must be a path below the program's folder"),
        ({"fetch_files": "x"}, 422, "fetch_files must be a list"),
    ],
)
def test_a_bad_request_is_refused(fields: dict[str, Any], status: int, sentence: str) -> None:
    error = refusal(body(**fields))
    assert error.status == status
    assert sentence in str(error)


def test_the_defaults_are_those_of_sandbox_fusion() -> None:
    request = read_request(body())
    assert (request.limits.seconds, request.compile_seconds) == (10.0, 10.0)
    assert request.script == Script(None, [], [], 0)
    assert request.limits.memory_mib > 1 << 20  # the executor's own maximum


def test_files_without_contents_are_left_out_as_sandbox_fusion_does() -> None:
    request = read_request(body(files={"a": None, "IGNORE_THIS_FILE_x": "eA==", "./d/b": "eA=="}))
    assert request.script.files == [("d/b", "eA==")]


@given(st.binary())
def test_any_frame_of_a_result_is_read_or_refused(frame: bytes) -> None:
    try:
        result = scripts.read_result(frame)
    except (ValueError, TypeError, IndexError, struct.error):  # those that mean a lost warden
        pass
    else:
        assert isinstance(result.status, ExecutionStatus)


def test_links_and_folders_are_not_fetched_and_room_is_limited(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    work = tmp_path / "work"
    work.mkdir()
    (work / "link").symlink_to(secret)
    (work / "folder").symlink_to(tmp_path)
    (work / "second_name").hardlink_to(secret)
    scratch = Scratch(str(work))
    scratch.write([("d/e/f", b"12345"), ("g", b"6")])
    found, too_large = scratch.read(["link", "folder/secret", "second_name", "d", "none", "d/e/f", "g", "g"], 6)
    assert (found, too_large) == ([(5, b"12345"), (6, b"6")], [7])


def test_a_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "folder").symlink_to(tmp_path)
    (work / "link").symlink_to(tmp_path / "made")
    for path in ("folder/made", "link"):
        with pytest.raises(OSError, match=r".+"):
            Scratch(str(work)).write([(path, b"x")])
    assert not (tmp_path / "made").exists()


def test_a_key_names_its_tenant_in_a_header_and_in_a_url(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# keys\n\nlab-a:secret:with colon\nlab-b:other\n")
    keys = read_keys(file)
    basic = base64.b64encode(b"anyone:secret:with colon").decode()
    assert tenant_of("Bearer secret:with colon", keys) == "lab-a"
    assert tenant_of(f"Basic {basic}", keys) == "lab-a"
    assert tenant_of("bearer other", keys) == "lab-b"
    for wrong in ("", "Bearer", "Bearer lab-b", "Basic !", "Digest other", "other"):
        assert tenant_of(wrong, keys) is None


@pytest.mark.parametrize("text", ["", "# none\n", "lab-a\n", ":key\n", "lab-a:\n", "lab-a:1\nlab-a:2\n"])
def test_a_file_without_usable_keys_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"TENANT:KEY"):
        read_keys(file)
