r"""One spelling for everything that does not change an answer: wrappers, Unicode, LaTeX synonyms, spaces, markdown.

The result is LaTeX-like text for ``lexer``. Every step shortens the text or maps characters, and every regular
expression is linear in the length of the text, so no text is expensive.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]
GREEK = frozenset(_GREEK)

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-",
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "•": r"\cdot ", "∗": "*", "✕": r"\times ",
    "÷": "/", "∕": "/", "⁄": "/", "∶": ":",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ",
    "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∖": r"\setminus ", "∅": r"\emptyset ",
    "±": r"\pm ", "∓": r"\mp ", "°": r"\degree ", "º": r"\degree ", "˚": r"\degree ", "…": r"\dots ", "⋯": r"\dots ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "∠": r"\angle ", "△": r"\triangle ", "⟨": r"\langle ", "⟩": r"\rangle ", "∣": "|", "′": "'", "‘": "'", "’": "'",
    "“": '"', "”": '"', "。": ".", "、": ",", "，": ",", "．": ".", "；": ";", "：": ":", "ϕ": r"\phi ", "ϵ": r"\epsilon ",
    "ϑ": r"\theta ", "µ": "u", "∑": r"\sum ", "∫": r"\int ", "∏": r"\prod ", "→": r"\to ", "€": r"\text{ euro }",
    "£": r"\text{ pound }", "¥": r"\text{ yen }", "₹": r"\text{ rupee }", "￥": r"\text{ yen }",
    "\u00a0": " ", "\u200b": "", "\u200c": "", "\u200d": "", "\ufeff": "", "\u2060": "", "\u2061": "", "\u2062": " ",
}  # fmt: skip
for _name, _lower in zip(_GREEK, "αβγδεζηθικλμνξοπρστυφχψω", strict=True):
    _UNICODE[_lower] = f"\\{_name} "
for _name, _upper in {
    "Gamma": "Γ",
    "Delta": "Δ",
    "Theta": "Θ",
    "Lambda": "Λ",
    "Pi": "Π",
    "Sigma": "Σ",
    "Phi": "Φ",
    "Psi": "Ψ",
    "Omega": "Ω",
}.items():
    _UNICODE[_upper] = f"\\{_name} "
_TRANSLATION = str.maketrans(_UNICODE)

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣⁱ"
_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₓᵢ"
_RAISED = str.maketrans(_SUPERSCRIPTS + _SUBSCRIPTS, "0123456789+-()nxi" * 2)
_SUPERSCRIPT = re.compile(f"[{_SUPERSCRIPTS}]+")
_SUBSCRIPT = re.compile(f"[{_SUBSCRIPTS}]+")
_VULGAR = re.compile("[¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-z])?")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_COMBINING_LINE = re.compile("((?:\\d[\u0305\u0304])+)")

_COMMANDS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "sfrac", "nicefrac"), r"\frac"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), r"\le"),
    **dict.fromkeys(("geq", "geqslant", "geqq"), r"\ge"),
    **dict.fromkeys(("neq",), r"\ne"),
    **dict.fromkeys(("lt",), "<"),
    **dict.fromkeys(("gt",), ">"),
    **dict.fromkeys(("ldots", "cdots", "dotsc", "dotsb", "dotso"), r"\dots"),
    **dict.fromkeys(("ast",), "*"),
    **dict.fromkeys(("div",), "/"),
    **dict.fromkeys(("colon",), ":"),
    **dict.fromkeys(("lbrace",), r"\{"),
    **dict.fromkeys(("rbrace",), r"\}"),
    **dict.fromkeys(("lbrack",), "["),
    **dict.fromkeys(("rbrack",), "]"),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    **dict.fromkeys(("varnothing",), r"\emptyset"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("backslash", "smallsetminus"), r"\setminus"),
    **dict.fromkeys(("R", "reals", "Reals"), r"\mathbb{R}"),
    **dict.fromkeys(("varphi",), r"\phi"),
    **dict.fromkeys(("vartheta",), r"\theta"),
    **dict.fromkeys(("varepsilon",), r"\epsilon"),
    **dict.fromkeys(("land", "wedge"), r"\text{ and }"),
    **dict.fromkeys(("lor", "vee"), r"\text{ or }"),
    **dict.fromkeys(("textdegree", "degrees"), r"\degree"),
    **dict.fromkeys(("euro",), r"\text{ euro }"),
    **dict.fromkeys(("pounds",), r"\text{ pound }"),
    **dict.fromkeys(("approxeq", "simeq"), r"\approx"),
    **dict.fromkeys(("textbf", "textit", "textrm", "textnormal", "textsf", "texttt", "mbox", "hbox", "emph"), r"\text"),
    **dict.fromkeys(("operatorname", "mathit", "mathsf", "mathbf", "boldsymbol", "bm", "symbf"), r"\mathrm"),
    **dict.fromkeys(
        ("left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "textstyle",
         "scriptstyle", "limits", "nolimits", "large", "Large", "LARGE", "huge", "Huge", "small", "tiny", "normalsize", "rm", "bf", "it", "mathstrut", "hfill", "middle"), "",
    ),
    **dict.fromkeys(("quad", "qquad", "enspace", "thinspace", "space", "newline"), " "),
}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)(\*?)")
_SPACE_COMMAND = re.compile(r"(?<!\\)(?:\\[!,;: ]|\\(?=\s|$)|~)")
_THIN_COMMA = re.compile(r"(?<=\d)(?:,\\!|\{,\})\s*(?=\d)")
_THIN_SPACE = re.compile(r"(?<=\d)\\,(?=\d{3}(?!\d))")
_DEGREE = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\}|\\degree|\{\s*\\degree\s*\})")
_PERCENT_WORD = re.compile(r"(?<=[\d}) ])(?:percent|per cent|pct)(?![A-Za-z])", re.IGNORECASE)
_MATHRM = re.compile(r"\\mathrm\s*\{([^{}]*)\}|\\mathrm\s+([A-Za-z0-9])(?![A-Za-z])")
_LEAD = re.compile(
    r"\s*\*{0,2}(?:(?:so|thus|hence|therefore),?\s+)?(?:#{1,6}\s|####|(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|result|ans)\s*"
    r"(?:is\s*:?|are\s*:?|:|=)|\\approx(?![A-Za-z])|=)(?:\*\*(?=\s))?\s*",
    re.IGNORECASE,
)
_TRAIL = re.compile(r"(?:[.,;:]|(?<=[A-Za-z]{2})!|\\\\|\\text\s*\{\s*[.,;]?\s*\})\s*$")
_DOTS_END = re.compile(r"\.\.\.\s*$")
_FENCES = (
    ("```", "```"),
    ("**", "**"),
    ("__", "__"),
    ("`", "`"),
    ("*", "*"),
    ("$$", "$$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
)
_QUOTES = (('"', '"'), ("'", "'"))
_HOLDER = re.compile(r"\\(?:boxed|fbox|text|mathrm|displaystyle)\s*\{")
_SCALES = {
    "hundred": "100",
    "thousand": "10^3",
    "million": "10^6",
    "billion": "10^9",
    "trillion": "10^{12}",
    "dozen": "12",
}
_SCALE = re.compile(
    rf"(?<=[\d}}])\s*(?:\\text\s*\{{\s*({'|'.join(_SCALES)})\b|({'|'.join(_SCALES)})s?\b)", re.IGNORECASE
)
_NO_BRACKET = re.compile(r"\\(?:left|right)\s*\.")
_PLUS_MINUS = re.compile(r"\+/-|^\+-")
_CHOOSE = re.compile(r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}")
_INCHES = re.compile(r'(?<=\d)"$')
_SPACED_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(?: \d{3})+")
_TIMES_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
_WRAPPED_TEXT = re.compile(r"(?:answer|result)\s*(?:is|:)|\d|^\s*\(?[A-Za-z]\)?\s*$", re.IGNORECASE)


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """Return the normal form of ``text``. Two texts with the same normal form are the same answer."""
    text = _wrappers(text.strip())
    text = _characters(text)
    text = _THIN_COMMA.sub("", text)
    text = _THIN_SPACE.sub("", text)
    text = _NO_BRACKET.sub("", _SPACE_COMMAND.sub(" ", text))
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", _PLUS_MINUS.sub(r"\\pm ", text))
    text = _COMMAND.sub(_command, text)
    text = _DEGREE.sub(r"\\degree ", text)
    text = text.replace("...", r"\dots ")
    text = _PERCENT_WORD.sub(r"\\%", text).replace(r"\%", "%")
    text = _TIMES_TEN.sub(r"\\times ", text)
    text = _MATHRM.sub(_mathrm, text)
    text = _SCALE.sub(_scaled, text)
    text = _INCHES.sub(r"\\text{ in}", " ".join(_wrappers(text).split()))
    return text.replace(" ", "") if _SPACED_THOUSANDS.fullmatch(text) else text


def _characters(text: str) -> str:
    if text.isascii():
        return text
    text = _VULGAR.sub(_fraction, text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_RAISED)}}}", text)
    text = _SUBSCRIPT.sub(lambda m: f"_{{{m[0].translate(_RAISED)}}}", text)
    text = _ROOT.sub(lambda m: f"{_ROOTS[m[1]]}{{{m[2]}}}" if m[2] else _ROOTS[m[1]], text)
    text = _COMBINING_LINE.sub(lambda m: rf"\overline{{{re.sub('[^0-9]', '', m[1])}}}", text)
    text = unicodedata.normalize("NFKC", text.translate(_TRANSLATION))
    return text.translate(_TRANSLATION)


def _fraction(match: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[0]).split("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _scaled(match: re.Match[str]) -> str:
    word = match[1] or match[2]
    return rf"\times {_SCALES[word.lower()]}" + (r"\text{" if match[1] else "")


def _command(match: re.Match[str]) -> str:
    name = match[1]
    replacement = _COMMANDS.get(name)
    if replacement is None:
        return match[0]
    # A command ends at a letter: keep a space where the next text would join the new command.
    return replacement + (" " if replacement[-1:].isalpha() else "") + match[2]


def _mathrm(match: re.Match[str]) -> str:
    content = (match[1] if match[1] is not None else match[2]).strip()
    if len(content) <= 1 or not content.isalpha():
        return f" {content} "
    return f"\\text{{{match[1]}}}"


def _wrappers(text: str) -> str:
    """Remove what surrounds the whole answer, until nothing more can be removed."""
    for _ in range(12):
        before = text = text.strip()
        text = _unfenced(text)
        text = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
        if not _DOTS_END.search(text):
            text = _TRAIL.sub("", text).rstrip()
        text = _unheld(text)
        if text == before:
            break
    return text


def _unfenced(text: str) -> str:
    for start, end in _FENCES:
        if len(text) > len(start) + len(end) and text.startswith(start) and text.endswith(end):
            inner = text[len(start) : -len(end)]
            if start not in inner and end not in inner:
                return inner.strip()
    for start, end in _QUOTES:
        if len(text) > 2 and text[0] == start and text[-1] == end and start not in text[1:-1]:
            return text[1:-1].strip()
    if len(text) > 2 and text[0] == text[-1] == "$" and text[-2] != "\\" and "$" not in text[1:-1].replace(r"\$", ""):
        return text[1:-1].strip()
    return text


def _unheld(text: str) -> str:
    r"""Return the content of a command around the whole text, such as ``\boxed{...}``; a ``\text{...}`` with words stays."""
    match = _HOLDER.match(text)
    if match:
        end = closing_brace(text, match.end() - 1)
        if end == len(text) - 1:
            content = text[match.end() : end].strip()
            if not match[0].startswith((r"\text", r"\mathrm")) or _WRAPPED_TEXT.search(content):
                return content
        elif end > 0 and match[0].startswith(r"\text") and _LEAD.fullmatch(text[match.end() : end] + " "):
            return text[end + 1 :].strip()
    for command in (r"\boxed ", r"\fbox "):
        if text.startswith(command):
            return text[len(command) :].strip()
    return text


def closing_brace(text: str, start: int) -> int:
    """Return the position of the brace that closes the one at ``start``, or -1."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] == "{" and text[i - 1 : i] != "\\":
            depth += 1
        elif text[i] == "}" and text[i - 1 : i] != "\\":
            depth -= 1
            if depth == 0:
                return i
    return -1
