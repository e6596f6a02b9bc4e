"""The in-memory rate limit of status updates."""

from __future__ import annotations

from rstar_operator.reconcile import RateLimit


def test_a_recorded_key_is_limited_for_some_seconds() -> None:
    now = 100.0
    limit = RateLimit(5.0, lambda: now)
    assert limit.remaining("a") == 0
    limit.record("a")
    now = 103.0
    assert limit.remaining("a") == 2
    limit.record("a")
    assert limit.remaining("a") == 5
    now = 108.0
    assert limit.remaining("a") == 0


def test_old_keys_take_no_memory() -> None:
    now = 0.0
    limit = RateLimit(5.0, lambda: now)
    limit.record("again")
    for number in range(1_000):
        now += 1
        limit.record(f"round-{number}")
        if number % 3 == 0:
            limit.record("again")
        assert limit.remaining("again") > 0
        assert len(limit) <= 6
