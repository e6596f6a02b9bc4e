r"""From a text to its readings: what the normalised text may mean as an answer.

Most texts have one reading. ``5 m`` is a length or a product, ``E`` a letter or Euler's number; two answers are equal
when a reading of one equals a reading of the other.
"""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

from rstar.verify.equality.evaluate import symbols
from rstar.verify.equality.functions import FUNCTIONS, NAMES
from rstar.verify.equality.normalise import GREEK
from rstar.verify.equality.numbers import NUMBER_WORDS
from rstar.verify.equality.parser import parse
from rstar.verify.equality.python_text import parse_python
from rstar.verify.equality.tree import (
    Answer,
    Apply,
    Based,
    Collection,
    Number,
    Quantity,
    Relation,
    Symbol,
    UnreadableError,
    Words,
)
from rstar.verify.equality.units import split_unit

_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_BASE = re.compile(
    r"(?P<digits>[0-9][0-9A-F]*|[A-F][0-9A-F]*[0-9][0-9A-F]*)\s*_\s*\{?\s*(?:\\text\s*\{)?\s*(?:base\s*)?(?P<base>\d{1,2}|[a-z]+)\s*\}*"
)
_BASE_NAMES = {name: k for name, k in NUMBER_WORDS.items() if 2 <= k <= 16}
_ORDINAL = re.compile(r"(?<![A-Za-z\d])\d+\s*\^?\s*\{?(?:\\text\s*\{)?(?:st|nd|rd|th)\}*(?![A-Za-z])")
_RUN = re.compile(r"[^\W\d_]+")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_WORDLIKE = re.compile(r"[^\d\\^_=<>+*/|{}\[\]()%$!]*")
_PUNCTUATION = re.compile(r"[\s.,;:!?'\"“”‘’()~-]+")
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\S\S)", re.IGNORECASE)
_CHOICE = re.compile(r"\(?([A-Za-z])\)")
_SEPARATED = re.compile(r",|;|(?<![A-Za-z])(?:and|or)(?![A-Za-z])")


def words_of(text: str) -> str:
    r"""Return the words of a text in one spelling: lower case, without punctuation, articles and ``\text``."""
    plain = _TEXT.sub(r" \1 ", text)
    plain = _ARTICLE.sub("", plain.strip(), count=1)
    return _PUNCTUATION.sub(" ", plain).strip().casefold()


@lru_cache(maxsize=4096)
def plain_words(text: str) -> str | None:
    """Return the words of a normalised text without any mathematics in it, else None. Separators stay with ``readings``."""
    inner = _TEXT.sub(r" \1 ", text).strip()
    if not _WORDLIKE.fullmatch(inner) or _SEPARATED.search(inner):
        return None
    runs = _RUN.findall(inner)
    if not any(len(run) > 1 for run in runs):
        return None
    if any(run in FUNCTIONS or run in NAMES or run in GREEK for run in runs):
        return None
    return words_of(inner)


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Answer, ...]:
    """Return the readings of a normalised text, the likeliest first; words when it is no mathematics."""
    found: list[Answer] = []
    plain = plain_words(text)
    if plain is not None:
        found.append(Words(plain))
        if plain in NUMBER_WORDS:
            found.append(Number(Fraction(NUMBER_WORDS[plain])))
        _add(found, text, python_only=True)
        return tuple(found)
    if choice := _CHOICE.fullmatch(text):
        return (Symbol(choice[1]),)
    if (match := _BASE.fullmatch(text)) and (base := based(match["digits"], match["base"])):
        return (base,)
    if _ORDINAL.search(text):
        return (Words(words_of(re.sub(r"[\^{}]", "", _TEXT.sub(r"\1", text)))),)
    text = _without_thousands(text)
    if split := split_unit(text):
        value, unit, either = split
        found.extend(Quantity(reading, unit) for reading in _values(value) if is_constant(reading))
        if found and not either:
            return tuple(found)
    _add(found, text)
    if not found:
        found.extend(_listed_words(text))
    return tuple(found)


def _values(text: str) -> list[Answer]:
    found: list[Answer] = []
    _add(found, text)
    return found


def _add(found: list[Answer], text: str, *, python_only: bool = False) -> None:
    """Add the readings as mathematics and as Python."""
    if not python_only:
        with suppress(UnreadableError):
            found.append(_with_degrees(parse(text)))
    if "\\" not in text:
        try:
            reading = parse_python(text)
        except UnreadableError:
            return
        if reading not in found:
            found.append(reading)


def _with_degrees(answer: Answer) -> Answer:
    match answer:
        case Apply("degree", (value,)):
            return Quantity(value, "degree")
        case Apply("neg", (Apply("degree", (value,)),)):
            return Quantity(Apply("neg", (value,)), "degree")
    return answer


def based(digits: str, base: str) -> Based | None:
    """Return the digits with the base, or None when that is no base."""
    number = int(base) if base.isdigit() else _BASE_NAMES.get(base, 0)
    return Based(digits.lstrip("0") or "0", number) if 2 <= number <= 36 else None


def is_constant(answer: Answer) -> bool:
    """Return whether the answer is a value that may have a unit: no variables, no words."""
    match answer:
        case Number():
            return True
        case Apply():
            return not symbols(answer)
        case Symbol(name):
            return name == "pi"
        case Quantity(value, _):
            return is_constant(value)
        case Relation(sides, signs):
            return set(signs) == {"="} and is_constant(sides[-1])
        case Collection(("ratio" | "time" | "tuple" | "bare"), items):
            return all(is_constant(item) for item in items)
    return False


def _without_thousands(text: str) -> str:
    """Return the text with 1,234 as 1234, outside of brackets: ``(1,234)`` is a pair."""
    if "," not in text:
        return text
    depth, pieces, at = 0, [], 0
    for match in re.finditer(r"[(\[{]|[)\]}]|" + _THOUSANDS.pattern, text):
        if match[0] in "([{":
            depth += 1
        elif match[0] in ")]}":
            depth -= 1
        elif depth == 0:
            pieces.append(text[at : match.start()] + match[0].replace(",", ""))
            at = match.end()
    return "".join(pieces) + text[at:]


def _listed_words(text: str) -> list[Answer]:
    """Return words, or a list of words where separators stand between them."""
    inner = _TEXT.sub(r" \1 ", text)
    parts = [part.strip() for part in _SEPARATED.split(inner)]
    if len(parts) > 1 and all(parts) and all(_WORDLIKE.fullmatch(part) for part in parts):
        return [Collection("bare", tuple(Words(words_of(part)) for part in parts))]
    if re.search(r"[\\^_=<>+*/|{}\[\]]", inner):
        return [Words("".join(inner.split()))]
    return [Words(words_of(inner))]
