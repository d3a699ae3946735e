"""Exact rationals: integers, decimals, fractions, mixed numbers, powers, scientific notation. No tolerance."""

import re
from fractions import Fraction

MAX_DIGITS = 1_000
"""Decimal digits of a numerator or denominator. Larger ones are left to the next rung, whose process may be killed."""

_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)?(?:\.\d*)?")
_SCIENTIFIC = re.compile(r"(?P<mantissa>\d+(?:\.\d*)?|\.\d+)[eE](?P<exponent>[+-]?\d+)")
_TIMES_TEN = re.compile(r"(?P<mantissa>[\d.,]+)\s*\\(?:times|cdot)\s*(?P<power>10\s*\^.*)", re.DOTALL)
_POWER = re.compile(r"(?P<base>\d+)\s*\^\s*(?:(?P<digit>\d)|\{\s*(?P<exponent>[+-]?\d+)\s*\})")
_REPEATING = re.compile(r"(?P<whole>\d*)\.(?P<fixed>\d*)\\overline\{(?P<cycle>\d+)\}")
_FRAC = re.compile(r"(?P<whole>\d+)?\s*\\frac\{(?P<top>[^{}]*(?:\{[^{}]*\})?)\}\{(?P<bottom>[^{}]*(?:\{[^{}]*\})?)\}")
_MIXED = re.compile(r"(?P<whole>\d+)\s+(?P<top>\d+)/(?P<bottom>\d+)")


def rational(text: str) -> Fraction | None:
    """The rational that a normal form (with its spaces) writes; None for anything else."""
    if len(text) > MAX_DIGITS:
        return None
    text = text.strip()
    sign = 1
    while len(text) > 1:
        if text[0] in "+-":
            sign, text = (-sign if text[0] == "-" else sign), text[1:].lstrip()
        elif text[0] == "(" and text[-1] == ")":
            text = text[1:-1].strip()
        else:
            break
    value = _unsigned(text)
    return None if value is None else sign * value


def _unsigned(text: str) -> Fraction | None:
    if match := _NUMBER.fullmatch(text):
        digits = text.replace(",", "").replace(" ", "")
        return Fraction(digits) if any(c.isdigit() for c in digits) else None
    if match := _FRAC.fullmatch(text):
        return _with_whole(match["whole"], rational(match["top"]), rational(match["bottom"]))
    if match := _MIXED.fullmatch(text):
        return _with_whole(match["whole"], rational(match["top"]), rational(match["bottom"]))
    if match := _POWER.fullmatch(text):
        return _power(int(match["base"]), int(match["digit"] or match["exponent"]))
    if match := _SCIENTIFIC.fullmatch(text):
        return _times(Fraction(match["mantissa"]), _power(10, int(match["exponent"])))
    if match := _TIMES_TEN.fullmatch(text):
        return _times(rational(match["mantissa"]), rational(match["power"]))
    if match := _REPEATING.fullmatch(text):
        fixed, cycle = match["fixed"], match["cycle"]
        scale = 10 ** len(fixed)
        whole = Fraction(int((match["whole"] or "0") + fixed), scale)
        return whole + Fraction(int(cycle), scale * (10 ** len(cycle) - 1))
    if text.count("/") == 1:
        top, bottom = text.split("/")
        return _with_whole(None, rational(top), rational(bottom)) if top.strip() and bottom.strip() else None
    return None


def _with_whole(whole: str | None, top: Fraction | None, bottom: Fraction | None) -> Fraction | None:
    """top/bottom, plus the whole number before it; 3 5/2 is no mixed number but a product, or a slip."""
    if top is None or not bottom:
        return None
    value = top / bottom
    if whole is None:
        return value
    return int(whole) + value if 0 <= value < 1 else None


def _power(base: int, exponent: int) -> Fraction | None:
    if base == 0 and exponent <= 0:
        return None
    if len(str(base)) * abs(exponent) > MAX_DIGITS:
        return None
    return Fraction(base) ** exponent


def _times(left: Fraction | None, right: Fraction | None) -> Fraction | None:
    return None if left is None or right is None else left * right
