from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar.rpc.call_failures import PUSHBACK, CallFailure, FailureKind, classify_failure, pushback_seconds

UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "details", ["Stream removed (Socket closed)", "recvmsg:Connection reset by peer", "keepalive watchdog timeout"]
)
def test_a_broken_connection_is_a_loss_unless_the_programs_had_not_started(details: str) -> None:
    assert classify_failure(UNAVAILABLE, details, connected=True).kind is FailureKind.LOST
    assert classify_failure(UNAVAILABLE, details, connected=True, started=False).kind is FailureKind.UNREACHED


def test_unavailable_is_a_loss_only_without_a_connection() -> None:
    assert classify_failure(UNAVAILABLE, "no", connected=False).kind is FailureKind.LOST
    assert classify_failure(UNAVAILABLE, "no", connected=True).kind is FailureKind.UNREACHED
    refused = "failed to connect to all addresses; last error: Connection reset"
    assert classify_failure(UNAVAILABLE, refused, connected=False).kind is FailureKind.UNREACHED


@given(st.sampled_from([UNAVAILABLE, EXHAUSTED]), st.text(), st.booleans(), st.integers(0, 10**9))
def test_a_server_that_sends_a_pushback_is_busy_and_ran_nothing(
    code: grpc.StatusCode, details: str, connected: bool, milliseconds: int
) -> None:
    trailing = [("other", "1"), (PUSHBACK, str(milliseconds))]
    assert classify_failure(code, details, trailing, connected=connected) == CallFailure(
        FailureKind.BUSY, milliseconds / 1000
    )


@given(st.one_of(st.text(), st.integers(max_value=-1).map(str)).filter(lambda text: not text.strip().isdecimal()))
def test_a_negative_or_unreadable_pushback_means_never(value: str) -> None:
    assert pushback_seconds(value) is None
    assert classify_failure(EXHAUSTED, "", [(PUSHBACK, value)], connected=True).kind is FailureKind.FINAL


def test_a_full_queue_is_busy_and_a_message_that_is_too_large_is_final() -> None:
    assert classify_failure(EXHAUSTED, "64 wait", connected=True) == CallFailure(FailureKind.BUSY)
    large = "CLIENT: Sent message larger than max (73400330 vs. 67108864)"
    assert classify_failure(EXHAUSTED, large, connected=True).kind is FailureKind.FINAL


@given(st.sampled_from(list(grpc.StatusCode)), st.text(), st.booleans(), st.booleans())
def test_only_failures_of_infrastructure_are_retried(
    code: grpc.StatusCode, details: str, connected: bool, started: bool
) -> None:
    infrastructure = {UNAVAILABLE, EXHAUSTED, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}
    kind = classify_failure(code, details, connected=connected, started=started).kind
    if code not in infrastructure:
        assert kind is FailureKind.FINAL
    if not started:
        assert kind is not FailureKind.LOST
