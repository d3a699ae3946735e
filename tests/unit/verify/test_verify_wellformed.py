"""Golds that were cut short, and those that only look so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubedistill_runtime.verify.math import check_gold

CUT = {
    "3 +": "nothing after +",
    "3+": "nothing after +",
    "2 -": "nothing after -",
    "5*": "nothing after *",
    "x =": "nothing",
    "x^": "nothing after ^",
    r"3 \cdot": r"nothing after \cdot",
    r"1 \pm": r"nothing after \pm",
    r"[0,1] \cup": r"nothing after \cup",
    r"\sqrt": r"nothing after \sqrt",
    "(1+, 2)": "nothing after +",
    "(2*)": "nothing after *",
    "*5": "nothing before *",
    "/2": "nothing before /",
    "(1,2": "has a (",
    "1,2)": "has a )",
    "[1,2": "has a [",
    "((1,2)": "has a (",
    "f(x": "has a (",
    r"\left(1,2": "has a (",
    r"\{1,2": r"has a \{",
    r"\{1,2)": r"has a",
    r"(-\infty, 3] \cup (4": "has a (",
    "1],[2": "has a ]",
}
WHOLE = [
    "[1,2)",
    "(1,2]",
    r"\left[1,2\right)",
    r"(-\infty, 3] \cup [4, \infty)",
    "]1, 2[",
    "]1,2]",
    "[1,2[",
    r"[\frac{1}{2}, f(3))",
    "[[1,2],[3,4]]",
    "(1,2),(2,3]",
    r"\{(1,2),(3,4)\}",
    r"\{x \mid x > 0\}",
    r"\langle 1, 2\rangle",
    r"\left\{\begin{array}{l} x=1 \\ y=2 \end{array}\right.",
    r"\left. x^2 \right|_{0}^{1}",
    r"\lfloor x \rfloor",
    r"\begin{pmatrix}1&-2\\3&4\end{pmatrix}",
    "-3",
    "+5",
    r"\pm 2",
    "5!",
    "50%",
    "0^+",
    "H^+",
    r"Ca^{2+}",
    "x > 3",
    "= 5",
    "a) 5, b) 7",
    "1) -2; 2) 3",
    "A)",
    "(B",
    "A+",
    "O-",
    "|x|",
    "3...",
    "5 cm",
    r"\text{well-known}",
]


@pytest.mark.parametrize(("gold", "reason"), CUT.items())
def test_what_is_cut_short_is_no_gold(gold: str, reason: str) -> None:
    assert reason in (check_gold(gold) or "accepted")


@pytest.mark.parametrize("gold", WHOLE)
def test_what_is_whole_stays_a_gold(gold: str) -> None:
    assert check_gold(gold) is None


EXPRESSIONS: "st.SearchStrategy[str]" = st.recursive(
    st.one_of(st.integers(-99, 99).map(str), st.sampled_from(["x", r"\pi", r"\sqrt{2}", "0.5"])),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("f({})".format),
        inner.map(r"\sqrt{{{}}}".format),
        st.tuples(inner, inner).map(lambda pair: r"\frac{{{}}}{{{}}}".format(*pair)),
    ),
    max_leaves=6,
)
INTERVALS = st.tuples(st.sampled_from("(["), EXPRESSIONS, EXPRESSIONS, st.sampled_from(")]")).map(
    lambda parts: "{}{}, {}{}".format(*parts)
)
ANSWERS = st.one_of(
    EXPRESSIONS,
    st.lists(INTERVALS, min_size=1, max_size=3).map(r" \cup ".join),
    st.lists(EXPRESSIONS, min_size=2, max_size=4).map(lambda parts: "({})".format(", ".join(parts))),
    st.lists(EXPRESSIONS, min_size=1, max_size=4).map(lambda parts: r"\{{{}\}}".format(", ".join(parts))),
)


@given(ANSWERS)
def test_every_answer_made_by_the_rules_is_a_gold(answer: str) -> None:
    assert check_gold(answer) is None


@given(ANSWERS, st.data())
def test_it_is_none_without_any_one_of_its_brackets(answer: str, data: st.DataObject) -> None:
    places = [at for at, sign in enumerate(answer) if sign in "()[]"]
    if places:
        at = data.draw(st.sampled_from(places))
        cut = answer[:at] + answer[at + 1 :]
        assert check_gold(cut) is not None


@given(ANSWERS, st.sampled_from(["+", " -", " *", "/", "^", " =", r" \cdot", r" \cup "]))
def test_it_is_none_with_an_operator_behind_it(answer: str, operator: str) -> None:
    assert check_gold(answer + operator) is not None
