"""Limits of a key with a given clock, and keys as hashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rstar_openai.admission import retry_after
from rstar_openai.keys import KeyRing, find, read_keys
from rstar_openai.limits import KeyUse, Limits

SECRET = "sk-0123456789abcdef"


def test_requests_at_once_are_bounded() -> None:
    use = KeyUse(Limits(at_once=2), 0)
    assert [use.begin(0) is None for _ in range(3)] == [True, True, False]
    use.end(1, 0)
    assert use.begin(1) is None


def test_requests_per_minute_come_back_evenly() -> None:
    use = KeyUse(Limits(requests=6), 0)
    assert [use.begin(0) is None for _ in range(7)] == [True] * 6 + [False]
    refusal = use.begin(0)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(10)
    assert use.begin(10) is None
    assert use.begin(10) is not None


def test_tokens_are_charged_afterwards_and_then_block() -> None:
    use = KeyUse(Limits(tokens=60), 0)
    assert use.begin(0) is None
    use.end(0, 120)  # one token comes back each second, and the bucket is 60 below empty
    refusal = use.begin(0)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(61)
    assert use.begin(62) is None


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=60), st.integers(1, 20))
def test_never_more_requests_in_a_window_than_the_bucket_and_its_refill(
    steps: list[tuple[float, int]], per_minute: int
) -> None:
    use, now, begun = KeyUse(Limits(requests=per_minute), 0), 0.0, []
    for pause, tokens in steps:
        now += pause
        if use.begin(now) is None:
            begun.append(now)
            use.end(now, tokens)
    for i, first in enumerate(begun):
        for j in range(i, len(begun)):
            assert j - i + 1 <= per_minute * (1 + (begun[j] - first) / 60) + 1e-6


@given(st.integers(0, 1_000), st.integers(1, 100), st.floats(0, 1_000))
def test_the_time_until_another_try_is_between_a_second_and_a_minute(waiting: int, slots: int, mean: float) -> None:
    assert 1 <= retry_after(waiting, slots, mean) <= 60


def test_keys_are_kept_as_hashes_with_limits_of_their_own() -> None:
    text = f"# the lab\nlab {SECRET} atOnce=2 tokensPerMinute=100\n\nweb {SECRET}x\n"
    lab, web = read_keys(text, Limits(at_once=9, requests=5), "keys")
    assert (lab.name, lab.limits) == ("lab", Limits(2, 5, 100))
    assert web.limits == Limits(9, 5, None)
    assert SECRET not in repr(lab)
    assert find((lab, web), SECRET) is lab
    assert find((lab, web), SECRET + "y") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no key"),
        ("lab", "line 1: write NAME KEY"),
        ("lab short", "fewer than 16"),
        (f"lab {SECRET}\nlab {SECRET}x", "line 2: the name lab is used twice"),
        (f"lab {SECRET}\nweb {SECRET}", "the same key"),
        (f"lab {SECRET} atonce=2", "did you mean atOnce?"),
        (f"lab {SECRET} atOnce=0", "at least 1"),
        (f"lab {SECRET} atOnce=²", "at least 1"),
    ],
)
def test_a_wrong_file_of_keys_gets_a_sentence_without_the_key(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="keys") as found:
        read_keys(text, Limits(), "keys")
    assert sentence in str(found.value)
    assert SECRET not in str(found.value)


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"

    def write(text: str, at: int) -> None:
        file.write_text(text)
        os.utime(file, ns=(at, at))

    def valid(secret: str) -> bool:
        return ring.key_of({"Authorization": f"Bearer {secret}"}) is not None

    write(f"lab {SECRET}", 1)
    ring = KeyRing(file, None, Limits())
    assert valid(SECRET)
    write(f"lab {SECRET}-new", 2)
    assert (valid(SECRET), valid(f"{SECRET}-new")) == (False, True)
    write("broken", 3)
    assert valid(f"{SECRET}-new")
    file.unlink()
    assert valid(f"{SECRET}-new")


@pytest.mark.parametrize("header", ["", SECRET, f"Basic {SECRET}", "Bearer ", f"Bearer {SECRET[:-1]}"])
def test_only_the_bearer_of_a_key_is_let_in(header: str) -> None:
    ring = KeyRing(None, SECRET, Limits())
    assert ring.key_of({"Authorization": header}) is None
    assert ring.key_of({}) is None
    assert ring.key_of({"Authorization": f"bearer {SECRET}"}) is not None


def test_without_keys_everybody_may_call_as_one_key() -> None:
    ring = KeyRing(None, None, Limits())
    key = ring.key_of({"Authorization": "Bearer anything"})
    assert key is not None
    assert key.name == "anonymous"
