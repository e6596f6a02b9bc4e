r"""Splits a value from its unit: ``5 \text{ cm}^2``, ``10 m/s``, ``\$5``, ``12 eggs``, ``10:30 am``.

A unit is text, a known unit, or a word of three letters or more that cannot be a product of variables.
"""

from __future__ import annotations

import re

from rstar.verify.equality.functions import FUNCTIONS, NAMES
from rstar.verify.equality.normalise import GREEK
from rstar.verify.equality.numbers import NUMBER_WORDS

_SPELLINGS = {
    "mm": "millimeter millimeters millimetre millimetres", "cm": "centimeter centimeters centimetre centimetres",
    "dm": "decimeter decimeters", "m": "meter meters metre metres", "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches", "ft": "foot feet", "yd": "yard yards", "mi": "mile miles",
    "mg": "milligram milligrams", "g": "gram grams gm", "kg": "kilogram kilograms kilo kilos",
    "lb": "lbs", "oz": "ounce ounces", "l": "liter liters litre litres",
    "ml": "milliliter milliliters millilitre millilitres", "s": "sec secs second seconds",
    "min": "minute minutes mins", "h": "hr hrs hour hours", "day": "days", "week": "weeks wk", "yr": "year years yrs",
    "dollar": "dollars usd buck bucks $", "cent": "cents", "euro": "euros eur", "pound": "pounds gbp", "yen": "jpy",
    "rupee": "rupees rs inr",
    "degree": "degrees deg degs", "rad": "radian radians", "mph": "", "kmh": "kph", "n": "newton newtons",
    "j": "joule joules", "kj": "", "w": "watt watts", "kw": "", "v": "volt volts", "a": "amp amps ampere amperes",
    "k": "kelvin", "hz": "hertz", "pa": "pascal pascals", "mol": "mole moles", "ev": "", "ms": "", "ns": "", "us": "",
    "nm": "", "km2": "", "cc": "", "am": "a.m.", "pm": "p.m.", "c": "celsius", "f": "fahrenheit", "people": "person persons",
    "child": "children", "man": "men", "woman": "women", "foot-pound": "",
    "": "unit units",
}  # fmt: skip
_CANONICAL = {spelling: unit for unit, words in _SPELLINGS.items() for spelling in (unit, *words.split()) if spelling}
_SINGLE = frozenset("mgshLlNJWVAKCF")
_NO_UNIT = frozenset({*FUNCTIONS, *NAMES, *GREEK, "and", "or", "is", "to", "if", "then", "mod", "choose", "i", "e"})
_CHANGING = frozenset(
    [
        "half",
        "halves",
        "third",
        "thirds",
        "quarter",
        "quarters",
        "fourth",
        "fourths",
        "fifth",
        "fifths",
        "sixth",
        "sixths",
        "seventh",
        "sevenths",
        "eighth",
        "eighths",
        "ninth",
        "ninths",
        "tenth",
        "tenths",
        "hundredth",
        "hundredths",
        "thousandth",
        "thousandths",
        "squared",
        "cubed",
        "factorial",
        "root",
        "minus",
        "plus",
        "times",
        "negative",
        "less",
        "than",
        "below",
        "above",
        "under",
        "over",
        "base",
        "too",
        "many",
        "not",
        "is",
        "are",
        "was",
        "divided",
        "by",
        "multiplied",
        "modulo",
        "remainder",
        "wrong",
        "incorrect",
        "short",
        "off",
        "before",
        "after",
        "past",
        "ago",
        "next",
        *(name for name, k in NUMBER_WORDS.items() if k <= 10),
        "and",
        "or",
        "if",
        "but",
        "at",
        "least",
        "most",
        "up",
        "down",
        "about",
        "around",
        "without",
    ]
)
"""Words that may make another value of the number before them."""
_JOINERS = frozenset({"of", "per", "sq", "cu", "a", "an", "the"})
_VARIABLES = frozenset("abcdxyz")

_WORD = r"(?:\\text\s*\{[^{}]*\}|\$|\\\$|[A-Za-z]+\.?)(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_FRACTION = r"\\frac\s*\{\s*\\text\s*\{[^{}]*\}[^{}]*\}\s*\{\s*\\text\s*\{[^{}]*\}(?:\^\{?\d\}?)?\s*\}"
_TAIL = re.compile(
    rf"(?P<value>.*(?:[\d)}}!%\]]|\\pi|\\degree))(?P<gap>\s*)(?P<unit>(?:{_FRACTION}|{_WORD})(?:(?:\s*(?:/|\\cdot(?![A-Za-z])|-)\s*|\s+){_WORD})*)\s*",
    re.DOTALL,
)
_CURRENCY = re.compile(
    r"(?P<sign>[-+]?)\s*(?:\\?\$|\\text\s*\{\s*(?P<name>euro|pound|yen|rupee)\s*\})\s*(?P<value>[-\d.\\(].*)", re.DOTALL
)
_CLOCK = re.compile(r"(?<=[\d\s{])([ap])\.\s?m\.?(?=\s*\}?\s*$)", re.IGNORECASE)
_PLAIN_WORD = re.compile(r"\\text\s*\{([^{}]*)\}|([A-Za-z$]+)")


def split_unit(text: str) -> tuple[str, str, bool] | None:
    """Return the value, the unit and whether the text may also be an expression (``5 m``); None without a unit."""
    text = _CLOCK.sub(r"\1m", text)
    if (match := _CURRENCY.fullmatch(text)) is not None:
        value = match["sign"] + match["value"]
        inner = split_unit(value)
        unit = match["name"] or "dollar"
        if inner is None:
            return value, unit, False
        return inner[0], unit if inner[1] == unit else f"{unit}{inner[1]}", False
    unit, either = "", False
    while (match := _TAIL.fullmatch(text)) is not None:
        piece = match["unit"]
        words = _PLAIN_WORD.findall(piece)
        said = [word for text_word, plain in words for word in (text_word or plain).lower().split()]
        area = said[-1:] in (["squared"], ["cubed"]) and len(said) > 1
        changing = _CHANGING & set(said[:-1] if area else said) or ("in" in said and len(said) > 1)
        if changing or not all(_is_unit(text_word, word, bool(match["gap"])) for text_word, word in words):
            break
        unit = f"{piece} {unit}".strip()
        either = either or any(len(word) == 1 and word != "$" for _, word in words)
        text = match["value"].strip()
    return (text, canonical(unit), either) if unit else None


def _is_unit(content: str, word: str, gap: bool) -> bool:
    if not word:
        return not any(c.isdigit() for c in content)
    if word in _NO_UNIT and word not in _CANONICAL:
        return False
    if gap and word.lower() in _JOINERS:
        return True
    if word == "$" or (word.lower() in _CANONICAL and len(word) > 1):
        return True
    if len(word) == 1:
        return gap and word in _SINGLE
    return len(word) > 2 and gap and not set(word) <= _VARIABLES and any(v in "aeiouy" for v in word.lower())


def canonical(unit: str) -> str:
    """Return one spelling of a unit."""
    unit = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", unit.replace(r"\$", "$"))
    unit = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1 / \2", unit)
    unit = re.sub(r"[{}.~\\]|\\cdot", " ", unit).replace("^", " ^ ").lower()
    words = re.sub(r"([/^-])", r" \1 ", unit).split()
    words = [{"per": "/", "squared": "^2", "cubed": "^3"}.get(word, word) for word in words]
    parts: list[str] = []
    for word in words:
        named = _CANONICAL.get(word)
        if named is None:
            named = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        parts.append(named)
    for power, names in (("^2", ("square", "sq")), ("^3", ("cubic", "cu"))):
        for name in names:
            while name in parts:
                at = parts.index(name)
                parts[at : at + 2] = [*parts[at + 1 : at + 2], power]
    joined = "".join(p if p in {"/", "^"} or p.startswith("^") or p.isdigit() or not p else f" {p}" for p in parts)
    joined = joined.replace("/ ", "/").strip()
    return "" if joined in {"^2", "^3", "^", "^22"} else joined
