"""Decides simple pairs without a worker: plain numbers, plain words, texts with the same normal form.

The work is linear in the length of the texts, and no library is loaded.
"""

from __future__ import annotations

from rstar.verify.equality.numbers import NUMBER_WORDS, plain_number, same_rational
from rstar.verify.equality.read import plain_words


def quick(reference: str, answer: str) -> tuple[bool, str] | None:
    """Return whether two normalised texts are equal, and why; None for a pair that is not simple."""
    if reference == answer and reference:
        return True, "the same text"
    gold, given = plain_number(reference), plain_number(answer)
    if gold is not None and given is not None:
        shown_gold, shown_given = (number if number.digits else None for number in (gold, given))
        equal = same_rational(gold.value, shown_gold, given.value, shown_given)
        return equal, "equal as numbers" if equal else "different numbers"
    gold_words, given_words = plain_words(reference), plain_words(answer)
    if gold_words is not None and given_words is not None:
        equal = gold_words == given_words
        return equal, "the same words" if equal else "different words"
    if {gold_words, given_words} & NUMBER_WORDS.keys():
        return None
    if gold is not None and given_words is not None:
        return False, "words, where the reference is a number"
    if gold_words is not None and given is not None:
        return False, "a number, where the reference is words"
    return None
