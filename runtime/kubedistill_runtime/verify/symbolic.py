"""The last rung for math answers: math-verify, gold first, and guards against what it lets through.

math-verify compares with an absolute precision of 15 digits and rounds decimals to 6 places, so 1/2004! equals 1/2006!
and 1/2^99 equals 1/2^98 for it (huggingface/Math-Verify#14); sides that both vanish or both have no solution are equal
as well (#60). Where it says "equal", the two sides must therefore also agree relatively, at sampled points where they
have variables. Runs in a child process: parsing and simplifying may take for ever.
"""

import logging
import re

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from kubedistill_runtime.verify.normal import NormalForm
from kubedistill_runtime.verify.types import Outcome

METHOD = "math-verify"

DIGITS = 60
"""Significant digits of the relative check."""

EXACT_TOLERANCE = sympy.Float(10) ** -40
"""Relative difference that two exact expressions may show at that precision."""

DECIMAL_TOLERANCE = sympy.Float(10) ** -5
"""Relative difference allowed where one side is a decimal: 1.41421 for the root of 2, at math-verify's 6 places."""

# Units are ours: math-verify would take the variable off 5m as a metre.
_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
)
_CONFIG = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=_NORMALIZATION)]
_LETTERS = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]+")
_POINTS = tuple(sympy.Rational(*point) for point in ((7, 5), (-11, 3), (13, 7), (-2, 9), (17, 6)))
_SERIES = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Derivative, sympy.Limit)
_WHOLE_POINTS = (sympy.Integer(5), sympy.Integer(8), sympy.Integer(11))

logging.getLogger("math_verify").setLevel(logging.ERROR)


def compare_symbolic(gold: NormalForm, answer: NormalForm) -> Outcome:
    """Whether two single expressions are equal; undecided where one of them cannot be parsed."""
    left, right = _parsed(gold.spaced), _parsed(answer.spaced)
    if left is None:
        return Outcome(None, METHOD, "gold cannot be parsed")
    if right is None:
        return Outcome(None, METHOD, "the answer cannot be parsed")
    if not _same_case(gold.text, answer.text):
        return Outcome(False, METHOD)
    try:
        # Values first: they settle most pairs in a millisecond, where simplifying a wrong answer may take for ever.
        if (
            isinstance(left, sympy.Expr)
            and isinstance(right, sympy.Expr)
            and (settled := _settled(left, right)) is not None
        ):
            return Outcome(settled, METHOD)
        equal = verify(left, right, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
        return Outcome(equal and not _refuted(left, right), METHOD)
    except Exception as error:  # whatever the algebra raises on strange input, it has not decided
        return Outcome(None, METHOD, f"comparing failed: {type(error).__name__}")


def _parsed(text: str) -> sympy.Basic | sympy.MatrixBase | None:
    text = re.sub(r"\s+", " ", text)
    found = parse(f"\\boxed{{{text}}}", _CONFIG, fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found and not isinstance(found[0], str) else None


def _same_case(gold: str, answer: str) -> bool:
    """Whether a + B is not called A + b: the parser lowers letters. A lone letter may change its case."""
    one, two = (set("".join(_LETTERS.findall(text))) for text in (gold, answer))
    return len(one) < 2 or one == two or {c.lower() for c in one} != {c.lower() for c in two}


def _refuted(left: sympy.Basic, right: sympy.Basic) -> bool:
    """Whether two sides that math-verify calls equal are not, of which at least one is an equation."""
    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        return _different_equations(left, right)
    if isinstance(right, sympy.Eq):
        if right.lhs.is_number and _settled(right.lhs, right.rhs) is False:
            return True  # "1 + 1 = 3" is not the answer 3
        right = right.rhs
    if isinstance(left, sympy.Eq):
        if isinstance(left.lhs, sympy.Add):
            return True  # the gold is the line x + y = 1, not the number 1
        left = left.rhs
    return isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr) and _settled(left, right) is False


def _different_equations(left: sympy.Eq, right: sympy.Eq) -> bool:
    one, two = left.lhs - left.rhs, right.lhs - right.rhs
    if not one.free_symbols or one.free_symbols != two.free_symbols:
        return one != two
    ratio = sympy.simplify(one / two)
    if not ratio.free_symbols and ratio.is_finite and not ratio.is_zero:
        return False
    return not sympy.solve(left, one.free_symbols)  # no solutions on either side prove nothing


def _settled(left: sympy.Expr, right: sympy.Expr) -> bool | None:
    """Whether two expressions are equal, as far as values tell: exactly, or at sampled points; None if they do not.

    Digits refute and never prove that two numbers are equal: 2^2020 - 1 and 2^2020 + 1 share the first 608.
    """
    if left.is_Rational and right.is_Rational:
        return bool(left == right)
    decimal = left.has(sympy.Float) or right.has(sympy.Float)
    tolerance = DECIMAL_TOLERANCE if decimal else EXACT_TOLERANCE
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    points = _WHOLE_POINTS if left.has(*_SERIES) or right.has(*_SERIES) else _POINTS
    agreed = 0
    for shift in range(len(points) if symbols else 1):
        point = {symbol: points[(shift + i) % len(points)] + i for i, symbol in enumerate(symbols)}
        one, two = _value(left, point), _value(right, point)
        if not (one.is_number and two.is_number and one.is_finite and two.is_finite):
            continue
        if symbols and not (one.is_real and two.is_real):
            continue  # a logarithm or root left the reals, where log(ab) = log(a) + log(b) need not hold
        if abs(one - two) > tolerance * max(abs(one), abs(two)):
            return False
        agreed += 1
    return True if agreed and symbols and not decimal and left.free_symbols == right.free_symbols else None


def _value(side: sympy.Expr, point: dict[sympy.Symbol, sympy.Rational]) -> sympy.Expr:
    # Not subs() and doit() for all: they write x^(10^10) out.
    return sympy.N(side.subs(point).doit(), DIGITS) if side.has(*_SERIES) else side.evalf(DIGITS, subs=point)
