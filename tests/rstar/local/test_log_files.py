"""Reading and following logs while they grow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rstar.local.log_files import follow_lines, read_lines, service_log, service_logs

LINES = [f"line {number} {'x' * number}" for number in range(3_000)]


@pytest.mark.parametrize("last", [0, 1, 2, 1_500, 3_000, 9_999, None])
@pytest.mark.parametrize("end", ["\n", ""])
def test_only_the_last_lines_are_read_from_a_file_of_many_blocks(tmp_path: Path, last: int | None, end: str) -> None:
    path = tmp_path / "select-1.log"
    path.write_text("\n".join(LINES) + end)
    expected = LINES if last is None else LINES[len(LINES) - min(last, len(LINES)) :]
    assert list(read_lines([path], last)) == [("select-1", line) for line in expected]


def test_invalid_utf8_and_empty_lines_do_not_end_a_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"\xff\xfe\r\n\n50 %\r100 %\n")
    assert [line for _, line in read_lines([path])] == ["\ufffd\ufffd", "", "50 %\r100 %"]
    path.write_bytes(b"")
    assert list(read_lines([path], 5)) == []


def test_a_log_is_followed_to_its_last_line_also_without_a_line_break(tmp_path: Path) -> None:
    path, later = tmp_path / "a.log", tmp_path / "b.log"
    path.write_text("before\none\ntw")

    def writing() -> Iterator[None]:
        yield
        path.write_text("before\none\ntwo\n")
        yield
        later.write_text("other\n")
        yield
        with path.open("a") as log:
            log.write("three")

    steps = writing()
    lines = follow_lines(lambda: [path, later], lambda: next(steps, "over") == "over", last=2)
    assert list(lines) == [("a", "one"), ("a", "two"), ("b", "other"), ("a", "three")]


def test_a_log_that_a_new_run_overwrites_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old line\n")
    steps = iter([None, None])

    def over() -> bool:
        if (step := next(steps, "over")) is None:
            return False
        path.write_text("new\n")
        return step == "over"

    assert list(follow_lines(lambda: [path], over)) == [("a", "old line"), ("a", "new")]


def test_the_last_start_of_a_service_is_found_by_time_and_not_by_number(tmp_path: Path) -> None:
    for age, (number, replica) in enumerate([(10, 0), (10, 1), (3, 0), (3, 1)]):
        path = service_log(tmp_path, "policy", number, replica)
        path.write_text("")
        os.utime(path, (age, age))
    service_log(tmp_path, "ppm", 11, 0).write_text("")
    assert [path.name for path in service_logs(tmp_path, "policy")] == ["policy-3-0.log", "policy-3-1.log"]
    assert [path.name for path in service_logs(tmp_path, "policy", every=True)] == [
        "policy-10-0.log",
        "policy-10-1.log",
        "policy-3-0.log",
        "policy-3-1.log",
    ]
    assert service_logs(tmp_path, "search") == []
