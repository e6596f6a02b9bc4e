"""Overlap of training and held-out problems."""

from hypothesis import given
from hypothesis import strategies as st

from rstar.problem import Problem
from rstar.readers.overlap import Overlap, described, overlaps

WORDS = st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=1, max_size=30).map(" ".join)


def test_the_same_text_in_another_spelling_overlaps() -> None:
    held_out = [Problem("h", "What is 2 + 3, please?", "5")]
    assert overlaps([Problem("t", "what is  2+3  PLEASE", "5")], held_out) == [Overlap("t", "h", "text")]
    assert not overlaps([Problem("t", "what is 2+4 please", "6")], held_out)


def test_thirteen_common_words_overlap_and_twelve_do_not() -> None:
    common = [f"w{i}" for i in range(13)]
    held_out = [Problem("h", " ".join(["x", *common, "y"]))]
    assert overlaps([Problem("t", " ".join(["other", *common]))], held_out) == [Overlap("t", "h", "13-gram")]
    assert not overlaps([Problem("t", " ".join(["other", *common[1:]]))], held_out)


def test_games_overlap_by_their_numbers_and_target_alone() -> None:
    def game(name: str, *nums: int, target: int = 24) -> Problem:
        text = "Use each number once: make the target with plus, minus, times and divided by, please"
        return Problem(name, text, str(target), {"nums": list(nums), "target": target})

    held_out = [game("h", 8, 2, 6, 4)]
    assert overlaps([game("t", 2, 4, 6, 8)], held_out) == [Overlap("t", "h", "numbers")]
    assert not overlaps([game("t", 2, 4, 6, 9), game("u", 8, 2, 6, 4, target=25)], held_out)


@given(st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=5))
def test_every_training_problem_is_reported_at_most_once_and_a_copy_always(
    training: list[str], held_out: list[str]
) -> None:
    problems = [Problem(f"t{i}", text) for i, text in enumerate(training)]
    found = overlaps(problems, [Problem(f"h{i}", text) for i, text in enumerate(held_out)])
    assert len({overlap.training_id for overlap in found}) == len(found)
    assert {f"t{i}" for i, text in enumerate(training) if text in held_out} <= {o.training_id for o in found}


def test_the_description_names_the_first_pairs_and_counts_by_kind() -> None:
    found = [Overlap(f"t{i}", f"h{i}", "text") for i in range(5)]
    assert described(found) == "5 by text: t0 and h0, t1 and h1, t2 and h2, ..."
