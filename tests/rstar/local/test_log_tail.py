"""The line of a log that names the error."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstar.local.log_tail import error_line, last_lines

TORCHRUN = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("the loss is not a number at step 7")
ValueError: the loss is not a number at step 7
E1121 10:00:00.000 1 torch/distributed/elastic/multiprocessing/api.py:950] failed (exitcode: 1) local_rank: 0
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2030-01-01_00:00:00
  exitcode  : 1 (pid: 1)
  error_file: <N/A>
============================================================
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TORCHRUN, "ValueError: the loss is not a number at step 7"),
        (
            '{"event": "cannot listen", "error": "port 80 is taken", "level": "error"}\n',
            "cannot listen: port 80 is taken",
        ),
        ("loading\nno space left on device\n\n", "no space left on device"),
        ("", ""),
    ],
)
def test_the_error_line_is_the_error_of_the_program_and_not_of_its_launcher(
    tmp_path: Path, text: str, expected: str
) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert error_line(log) == expected


def test_a_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none") == []


def test_the_last_lines_of_a_long_log_are_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff\xfe noise\n" * 100_000 + b"the end\n")
    assert last_lines(log, 2)[-1] == "the end"
