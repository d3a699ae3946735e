"""The normal form of a math answer: what is typography and habit is taken off, what carries meaning stays.

Every step is a pass of bounded regular expressions over at most a few thousand characters: microseconds, no evaluation.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_UNICODE = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": "/",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "±": r"\pm ",
        "∞": r"\infty ",
        "π": r"\pi ",
        "∪": r"\cup ",
        "∈": r"\in ",
        "√": r"\sqrt ",
        "°": r"^\circ ",
        "²": "^2",
        "³": "^3",
        "½": r"\frac{1}{2}",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "，": ",",
        "（": "(",
        "）": ")",
    }
)

_UNIT_WORDS = {
    "mm": "mm millimeter millimetre",
    "cm": "cm centimeter centimetre",
    "dm": "dm decimeter decimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "mg": "mg milligram",
    "g": "g gram",
    "kg": "kg kilogram",
    "lb": "lb lbs pound",
    "oz": "oz ounce",
    "ml": "ml milliliter millilitre",
    "l": "l liter litre",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hrs hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "yr year",
    "dollar": "dollar usd",
    "cent": "cent",
    "euro": "euro eur",
    "degree": "degree deg",
    "radian": "radian rad",
    "mi/h": "mph",
    "km/h": "km/h kph",
    "m/s": "m/s",
    "hz": "hz hertz",
    "j": "j joule",
    "n": "n newton",
    "w": "w watt",
    "v": "v volt",
    "unit": "unit",
    "percent": "percent",
}
UNITS = {name: unit for unit, names in _UNIT_WORDS.items() for word in names.split() for name in (word, word + "s")}
"""Spelling -> unit, singular and plural."""

_WRAP = re.compile(r"\A(?:\$\$(?P<a>[^$]*)\$\$|\$(?P<b>[^$]*)\$|\\\((?P<c>.*)\\\)|\\\[(?P<d>.*)\\\])\Z", re.DOTALL)
_DROPPED = re.compile(
    r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|displaystyle|textstyle|limits)(?![a-zA-Z])\.?"
    r"|(?<!\\)\\[!,;:]|\\mathopen|\\mathclose"
)
_SPACES = re.compile(r"\\(?:quad|qquad|space)(?![a-zA-Z])|(?<!\\)\\[ \n\t]|~|\s+")
_MACROS = {
    "dfrac": r"\frac",
    "tfrac": r"\frac",
    "cfrac": r"\frac",
    "leq": r"\le",
    "leqslant": r"\le",
    "geq": r"\ge",
    "geqslant": r"\ge",
    "neq": r"\ne",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "lparen": "(",
    "rparen": ")",
    "degree": r"^\circ",
    "colon": ":",
    "varnothing": r"\emptyset",
}
_MACRO = re.compile(r"\\(" + "|".join(sorted(_MACROS, key=len, reverse=True)) + r")(?![a-zA-Z])")
_FRAC_TOP = re.compile(r"\\frac\s*([0-9a-zA-Z])")
_FRAC_BOTTOM = re.compile(r"(\\frac\s*\{[^{}]*\})\s*([0-9a-zA-Z])")
_SHORT_SQRT = re.compile(r"\\sqrt\s*([0-9a-zA-Z])")
_PLAIN_FUNCTION = re.compile(
    r"(?<![\\a-zA-Z])(sqrt|pi|infinity|infty|arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp)(?![a-zA-Z])"
)
_SQRT_CALL = re.compile(r"\\sqrt\s*\(([^()]*)\)")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|textsf|mathrm|mathbf|mathit|mathsf|mbox|operatorname|rm|bf)\s*\{")
_CIRC = re.compile(r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})")
_BASE = re.compile(r"\A([0-9A-F]*\d[0-9A-F]*)_(?:\{\s*(?:\\text)?\s*(\w+)\s*\}|(\d))\Z")
_LHS = re.compile(r"\A([a-zA-Z](?:_(?:\w|\{\w+\}))?(?:\([a-zA-Z]\))?)\s*(?:=|\\in(?![a-zA-Z]))\s*(?!=)")
_POWER = r"\s*(?:\^\s*(?:(?P<p1>[23])|\{(?P<p2>[23])\}))?\Z"
_TEXT_UNIT = re.compile(
    r"\A(?P<core>.*[^\s{(\[])(?P<gap>\s*)\\(?:text|textrm|mathrm|mbox|rm)\s*\{(?P<unit>[^{}]*)\}" + _POWER, re.DOTALL
)
_PLAIN_UNIT = re.compile(
    r"\A(?P<core>.*[\d)}\]])(?P<gap>\s*)(?P<unit>[a-zA-Z][a-zA-Z ./]*[a-zA-Z.])" + _POWER, re.DOTALL
)
_NOT_UNITS = re.compile(
    "and|or|not|to|by|of|if|is|are|times|over|plus|minus|more|less|least|most|than|greater|mod|modulo|base|pi|infinity|"
    "infty|half|halves|thirds?|hundred|thousand|million|billion|trillion|dozen|factorial|squared|cubed|choose|for|all|"
    "except|where|when|with|the"
)
_WORDS = re.compile(
    r"(?<![\\a-zA-Z])(?:[a-zA-Z]{4,}|(?:yes|no|odd)(?![a-zA-Z])|[a-zA-Z]{2,} (?=[a-zA-Z]{2}))",
    re.IGNORECASE,
)
"""What is no product of variables: four letters, a short answer that questions ask for, two words in a row."""
_LABELS = re.compile(r"[A-Z]{3,}|[A-Z][a-z]{2,}")
_ABOUT = re.compile(r"\A(?:(?:\\approx|\\simeq|\\thickapprox|about|approximately|roughly)(?![a-zA-Z])\s*)+")
_INTEGER = re.compile(r"-?\d{1,64}")
_SPACE_BETWEEN = re.compile(r"(?<=\d) (?=\d)|(?<=[a-zA-Z]) (?=[a-zA-Z])")
_MARK = "\x00"


@dataclass(frozen=True)
class NormalForm:
    """An answer without its typography.

    text: for comparison; no spaces but those between two words or two digits. spaced: the same with its spaces, in
    which "1, 000" and "1,000" still differ. name: the left side of `x = ...`. unit: what followed the number. percent:
    a percent sign followed it. wordy: the answer is words (from `\\text{}`, or plain), or a row of three or more
    capitals, such as points or options in their order: parsing has no sense for them.
    """

    text: str
    spaced: str
    name: str | None = None
    unit: str | None = None
    percent: bool = False
    wordy: bool = False


@lru_cache(maxsize=65_536)
def normal_form(raw: str) -> NormalForm:
    """The normal form of an answer. Never raises; an answer of nothing but typography has an empty text."""
    if _INTEGER.fullmatch(raw):
        return NormalForm(raw, raw)
    text = _unwrapped(raw.translate(_UNICODE).strip())
    text = _DROPPED.sub("", text.replace("{,}", ",").replace(r"\$", "$"))
    text = _SPACES.sub(" ", text).strip()
    text = _MACRO.sub(lambda match: _MACROS[match[1]], text)
    text = _ABOUT.sub("", text.replace("**", "^"))
    text, unit = _without_unit(text.rstrip(" .,;"))
    text, words = _plain_text(text)
    if unit is None:
        text, unit = _without_unit(text)
    text = _PLAIN_FUNCTION.sub(lambda match: "\\" + {"infinity": "infty"}.get(match[1], match[1]), text)
    text = _SHORT_SQRT.sub(r"\\sqrt{\1}", _SQRT_CALL.sub(r"\\sqrt{\1}", text))
    text = _FRAC_BOTTOM.sub(r"\1{\2}", _FRAC_TOP.sub(r"\\frac{\1}", text))
    text = text.rstrip(" .,;") if not text.endswith("...") else text
    name = None
    if (match := _LHS.match(text)) and "=" not in text[match.end() :]:
        name, text = match[1], text[match.end() :]
    percent = unit == "percent" or text.endswith("%")
    if percent:
        text, unit = text.rstrip("%\\ "), None
    if match := _BASE.match(text):
        text, unit = match[1], f"base {match[2] or match[3]}"
    text = text.removeprefix("+").strip()
    wordy = any(word in text for word in words) or (
        "\\begin" not in text and bool(_WORDS.search(text) or _LABELS.fullmatch(text))
    )
    tight = _SPACE_BETWEEN.sub(_MARK, text).replace(" ", "").replace(_MARK, " ")
    return NormalForm(tight, text, name, unit, percent, wordy)


def _unwrapped(text: str) -> str:
    for _ in range(4):
        inner = text
        if match := _WRAP.match(text):
            inner = next(group for group in match.groups() if group is not None)
        elif text.startswith((r"\boxed{", r"\fbox{")) and closing_brace(text, text.index("{")) == len(text) - 1:
            inner = text[text.index("{") + 1 : -1]
        elif text.startswith("**") and text.endswith("**") and len(text) > 4:
            inner = text[2:-2]
        if inner == text:
            break
        text = inner.strip()
    return text


def closing_brace(text: str, opening: int) -> int:
    """Index of the brace that closes the one at `opening`; -1 where none does. Escaped braces do not count."""
    depth, index = 0, opening
    while index < len(text):
        if text[index] == "\\":
            index += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
        index += 1
    return -1


def _plain_text(text: str) -> tuple[str, list[str]]:
    """Without `\\text{}` and its kin, "and" and "or" as commas; and the words that came out of them."""
    words, start = [], 0
    while match := _TEXT.search(text, start):
        end = closing_brace(text, match.end() - 1)
        if end < 0:
            break
        content = text[match.end() : end].strip()
        if content.lower() in ("and", "or"):
            content = ","
        elif re.search(r"[A-Za-z]{2,}", content):
            words.append(content)
        text = f"{text[: match.start()]} {content} {text[end + 1 :]}"
        start = match.start() + len(content) + 1
    if not words:
        text = re.sub(r"\s+(?:and|or)\s+", ", ", text)
    return _SPACES.sub(" ", re.sub(r"\s*,(?:\s*,)+", ",", text)).strip(), words


def _without_unit(text: str) -> tuple[str, str | None]:
    if text.startswith("$") and text.count("$") == 1:
        return text[1:].strip(), "dollar"
    text = text.replace("$", "")
    if match := _CIRC.search(text):
        scale = _TEXT.sub("", text[match.end() :]).strip(" }")
        if scale in ("", "C", "F"):
            return text[: match.start()].strip(), {"": "degree", "C": "celsius", "F": "fahrenheit"}[scale]
    if match := _TEXT_UNIT.match(text) or _PLAIN_UNIT.match(text):
        words = match["unit"].strip()
        unit = _unit(words)
        known = words.lower() in UNITS
        sure = (
            (known or match["core"][-1] in "0123456789)}]") if match.re is _TEXT_UNIT else bool(match["gap"]) or known
        )
        if unit and sure and (len(words) > 1 or match.re is _TEXT_UNIT):
            power = match["p1"] or match["p2"]
            return match["core"].strip(), f"{unit}^{power}" if power else unit
    return text, None


def _unit(words: str) -> str | None:
    """The unit that words spell; words that are no known unit, and nothing else either, stand for themselves."""
    parts = words.lower().rstrip(".").split()
    if len(parts) == 2 and parts[0].rstrip(".") in ("square", "sq", "cubic", "cu"):
        base = UNITS.get(parts[1])
        return base and f"{base}^{2 if parts[0].startswith('sq') else 3}"
    if len(parts) == 3 and parts[1] == "per":
        return f"{UNITS.get(parts[0], parts[0])}/{UNITS.get(parts[2], parts[2])}"
    if len(parts) == 1 and parts[0] in UNITS:
        return UNITS[parts[0]]
    counted = len(parts) <= 4 and all(
        len(part) >= 3 and part.isalpha() and not _NOT_UNITS.fullmatch(part) for part in parts
    )
    return " ".join(parts) if parts and counted else None
