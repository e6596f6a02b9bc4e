"""The operator's own short memory."""

from __future__ import annotations

from rstar_operator.reconcile import RateLimit


def test_what_was_noted_counts_for_some_seconds() -> None:
    now = 100.0
    lately = RateLimit(5.0, lambda: now)
    assert lately.left("a") == 0
    lately.note("a")
    now = 103.0
    assert lately.left("a") == 2
    lately.note("a")
    assert lately.left("a") == 5
    now = 108.0
    assert lately.left("a") == 0


def test_nothing_is_kept_of_those_that_are_gone() -> None:
    now = 0.0
    lately = RateLimit(5.0, lambda: now)
    lately.note("again")
    for number in range(1_000):
        now += 1
        lately.note(f"round-{number}")
        if number % 3 == 0:
            lately.note("again")
        assert lately.left("again") > 0
        assert len(lately) <= 6
