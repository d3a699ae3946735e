"""The last rung for math answers: math-verify, gold first, and guards against what it lets through.

math-verify compares with an absolute precision of 15 digits and rounds decimals to 6 places, so 1/2004! equals 1/2006!
and 1/2^99 equals 1/2^98 for it (huggingface/Math-Verify#14); sides that both vanish or both have no solution are equal
as well (#60). Where it says "equal", the two sides must therefore also agree relatively, at sampled points where they
have variables. Runs in a child process: parsing and simplifying may take for ever.
"""

import logging
import re
from fractions import Fraction

import sympy
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

_CONFIG = [LatexExtractionConfig(boxed_match_priority=0)]
_POINTS = (Fraction(7, 5), Fraction(11, 3), Fraction(13, 7))

logging.getLogger("math_verify").setLevel(logging.ERROR)


def compare_symbolic(gold: NormalForm, answer: NormalForm) -> Outcome:
    """Whether two single expressions are equal; undecided where one of them cannot be parsed."""
    left, right = _parsed(gold.spaced), _parsed(answer.spaced)
    if left is None:
        return Outcome(None, METHOD, "gold cannot be parsed")
    if right is None:
        return Outcome(None, METHOD, "the answer cannot be parsed")
    try:
        equal = verify(left, right, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
    except Exception as error:  # whatever the algebra raises on strange input, it has not decided
        return Outcome(None, METHOD, f"comparing failed: {type(error).__name__}")
    return Outcome(equal and not _refuted(left, right), METHOD)


def _parsed(text: str) -> sympy.Basic | sympy.MatrixBase | None:
    text = re.sub(r"\s+", " ", text)
    found = parse(f"\\boxed{{{text}}}", _CONFIG, fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found and not isinstance(found[0], str) else None


def _refuted(left: sympy.Basic, right: sympy.Basic) -> bool:
    """Whether two expressions that math-verify calls equal are not."""
    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        return _different_equations(left, right)
    if isinstance(right, sympy.Eq):
        if not right.lhs.free_symbols and right.lhs.is_number and _differ(right.lhs, right.rhs):
            return True  # "1 + 1 = 3" is not the answer 3
        right = right.rhs
    if isinstance(left, sympy.Eq):
        left = left.rhs
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return False
    return _differ(left, right)


def _different_equations(left: sympy.Eq, right: sympy.Eq) -> bool:
    one, two = left.lhs - left.rhs, right.lhs - right.rhs
    if not one.free_symbols or one.free_symbols != two.free_symbols:
        return one != two
    ratio = sympy.simplify(one / two)
    if not ratio.free_symbols and ratio.is_finite and not ratio.is_zero:
        return False
    return not sympy.solve(left, one.free_symbols)  # no solutions on either side prove nothing


def _differ(left: sympy.Expr, right: sympy.Expr) -> bool:
    """Whether two expressions differ relatively, by more than their own kind of writing explains."""
    if left.is_Rational and right.is_Rational:
        return bool(left != right)
    decimal = left.has(sympy.Float) or right.has(sympy.Float)
    tolerance = DECIMAL_TOLERANCE if decimal else EXACT_TOLERANCE
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    for shift in range(len(_POINTS) if symbols else 1):
        point = {symbol: sympy.Rational(_POINTS[(shift + i) % 3] + i) for i, symbol in enumerate(symbols)}
        try:
            one, two = (sympy.N(side.subs(point).doit(), DIGITS) for side in (left, right))
            scale = max(abs(one), abs(two))
            if scale.is_finite and not scale.is_zero and abs(one - two) > tolerance * scale:
                return True
        except (TypeError, ValueError, ArithmeticError, AttributeError):
            continue  # no number at this point: it proves nothing
    return False
