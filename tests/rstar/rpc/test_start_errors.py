"""A service that cannot start ends with one sentence and the exit code of its reason."""

from __future__ import annotations

import pytest
import typer

from rstar.rpc.errors import CallFailed, CallRefused, CallTimedOut, ServiceUnavailable
from rstar.rpc.serving import ServiceFailed
from rstar.rpc.start_errors import exit_on_start_error
from rstar.store.store import StoreError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("a wrong setting"), 2),
        (OSError("the port is taken"), 2),
        (RuntimeError("the GPU has no memory left"), 1),
        (StoreError("the bucket is away"), 1),
        (ServiceFailed("the engine died"), 1),
        (ServiceUnavailable("policy service", "localhost:50051", "no server was ready within 60 s"), 1),
        (CallTimedOut("policy service", "localhost:50051", "too late"), 1),
        (CallRefused("policy service", "localhost:50051", "no such method"), 1),
        (CallFailed("policy service", "localhost:50051", "it broke"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_reason_is_one_sentence_with_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, exit_on_start_error("search"):
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == f"search: {error}\n"


def test_the_services_own_exit_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, exit_on_start_error("search"):
        raise typer.Exit(3)
    assert ended.value.exit_code == 3
    assert capsys.readouterr().err == ""
