"""The ladder for math answers: which pairs are equal, and which only look so."""

from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubedistill_runtime.verify.answer import MAX_ANSWER
from kubedistill_runtime.verify.math import check_gold, compare, words_in_a_row
from kubedistill_runtime.verify.normal import normal_form
from kubedistill_runtime.verify.rational import rational
from kubedistill_runtime.verify.symbolic import compare_symbolic

EQUAL = [
    # typography
    ("5", "5."),
    ("5", " $5$ "),
    ("5", r"\(5\)"),
    ("5", r"\boxed{5}"),
    ("5", "**5**"),
    ("25", "025"),
    ("-3", "\u22123"),
    (r"\frac{1}{2}", r"\dfrac12"),
    (r"\frac{1}{2}", r"\tfrac{ 1 }{ 2 }"),
    (r"\frac{1}{\sqrt{2}}", r"\frac1{\sqrt2}"),
    (r"\left(1,2\right)", "(1, 2)"),
    ("x^2", "x**2"),
    ("2\\pi", "2π"),
    (r"x \le 3", r"x\leq 3"),
    # numbers
    ("-0", "0"),
    ("10", "10.0"),
    (".5", "1/2"),
    ("1,234", "1234"),
    ("1{,}234", "1\\,234"),
    ("1234567", "1 234 567"),
    ("1.5e3", "1500"),
    ("1500", r"1.5\times 10^3"),
    ("0.003", r"3 \cdot 10^{-3}"),
    ("1000000", "10^6"),
    ("2^{10}", "1024"),
    ("7/2", r"3\frac{1}{2}"),
    ("3.5", "3 1/2"),
    ("5/6", r"\frac{10}{12}"),
    ("-\\frac{1}{2}", r"\frac{-1}{2}"),
    ("-\\frac12", r"\frac{1}{-2}"),
    ("3.14", r"\frac{157}{50}"),
    (r"0.\overline{3}", r"\frac13"),
    (r"0.1\overline{6}", "1/6"),
    # percent, money, units, degrees, bases
    ("50%", "50"),
    ("50", r"50\%"),
    ("0.5", r"50\%"),
    ("50%", r"\frac12"),
    ("7", r"\$7.00"),
    ("5", "5 cm"),
    (r"5\text{ cm}^2", "5"),
    (r"5\text{ cm}^2", "5 square centimeters"),
    (r"60\text{ miles per hour}", "60 mph"),
    ("12", r"12\text{ red balls}"),
    (r"90^\circ", "90"),
    ("90", "90 degrees"),
    ("25^\\circ", r"25^{\circ}"),
    ("12_8", "12"),
    (r"1010_{2}", r"1010_{\text{2}}"),
    # words and letters
    ("B", "(B)"),
    ("B", r"\text{(B) } 12"),
    ("(B)", "B. because"),
    ("C", r"\textbf{C}"),
    ("Evelyn", r"\text{Evelyn}"),
    (r"\text{Yes}", "yes"),
    (r"\text{no solution}", "No solution"),
    # names
    ("5", "x = 5"),
    ("x=5", "5"),
    ("2x+1", "y = 1+2x"),
    ("f(x)=x^2", "x^2"),
    ("x=2y", "y=x/2"),
    ("AB=5", "5"),
    ("[0,1]", r"x \in [0, 1]"),
    # several solutions
    ("1,2", "2, 1"),
    ("1 and 2", r"1 \text{ or } 2"),
    ("x=1 or x=2", "2,1"),
    ("x=1,y=2", "y=2,x=1"),
    ("(1,2)", "x=1, y=2"),
    ("100,200", "200, 100"),
    (r"\pm 2", "2, -2"),
    (r"\pm\sqrt{2}", r"\{-\sqrt{2}, \sqrt{2}\}"),
    (r"1\pm\sqrt{2}", r"1-\sqrt2, 1+\sqrt2"),
    ("(2,3),(3,2)", "(3,2),(2,3)"),
    (r"\{(1,2),(3,4)\}", r"\{(3,4), (1, \frac{4}{2})\}"),
    (r"\{5\}", "5"),
    # intervals, sets, points, matrices
    ("[1,2)", "[1, 2)"),
    ("(1,2)", "1,2"),
    ("(1,2,3)", "[1,2,3]"),
    ("(1,2)", r"\langle 1, 2\rangle"),
    ("x<3", r"(-\infty,3)"),
    (r"(-\infty,3)", "x<3"),
    ("[1,2]", r"1\le x\le 2"),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)"),
    (r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x>2"),
    (r"\mathbb{R}", r"(-\infty,\infty)"),
    (r"\begin{pmatrix}1/2&2\\3&4\end{pmatrix}", r"\begin{bmatrix} \frac12 & 2 \\ 3 & 4 \end{bmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
    # algebra
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
    (r"\frac{\sqrt2}{2}", "sqrt(2)/2"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\sin^2 x", r"1-\cos^2 x"),
    (r"\ln 8", r"3\ln 2"),
    (r"\ln(ab)", r"\ln a+\ln b"),
    (r"\binom{10}{3}", "120"),
    ("5!", "120"),
    (r"\log_2 8", "3"),
    ("3+4i", "4i+3"),
    (r"\frac{n(n+1)}{2}", r"\sum_{k=1}^{n} k"),
    (r"\sqrt{2}", "1.41421356"),
    ("2x-y+3=0", "4x-2y+6=0"),
    ("x^2+y^2=1", "y^2+x^2=1"),
    ("x>2", "2<x"),
]

CONVENTIONS = [
    # gold, answer, right? Words: whatever their case.
    ("yes", "Yes", True),
    ("Yes", "YES.", True),
    ("No", r"\text{no}", True),
    ("Yes", "No", False),
    ("red", "Red", True),
    ("odd", "Even", False),
    ("the cat", "The cat", True),
    ("the cat", "cat the", False),
    # percent: with a bare number as math-verify has it; two percentages are numbers
    ("50%", "50", True),
    ("50", r"50\%", True),
    ("50%", "0.5", True),
    ("0.5", "50%", True),
    ("1", "100%", True),
    ("150%", "1.5", True),
    ("12.5%", "12.5", True),
    ("0.5", r"0.5\%", False),
    (r"0.5\%", "0.5", False),
    (r"0.5\%", r"0.50\%", True),
    (r"0.5\%", r"5\%", False),
    (r"0.5\%", "0.005", True),
    ("5%", "500", False),
    (r"-50\%", "-0.5", True),
    ("x%", "x", True),
    # a row of letters: three capitals or more are points, options or an order; fewer are a product
    ("ABC", "ACB", False),
    ("ABC", "BCA", False),
    ("ABC", "ABC.", True),
    ("ABC", r"\text{ABC}", True),
    ("ABCD", "DCBA", False),
    ("ABC", "A, B, C", False),
    ("AB", "BA", True),
    ("abc", "cab", True),
    # bases: the base may be left out, the number may not be another, and is not converted
    ("101_2", "101", True),
    ("101_2", "101_{2}", True),
    ("101_2", r"101_{\text{2}}", True),
    ("101_2", "5", False),
    ("5", "101_2", False),
    ("101_2", "101_8", False),
    ("101_2", "110_2", False),
    ("A3_{16}", "163", False),
    # multiple choice
    ("A", "(A)", True),
    ("(A)", "A", True),
    ("A", "a", True),
    ("A", "A.", True),
    ("A", r"\text{(A)}", True),
    ("A", "(B)", False),
    ("A", "(A) or (B)", False),
    # units, degrees, money
    (r"5\text{ cm}", "5", True),
    (r"5\text{ m}^2", "5 m^2", True),
    ("5 m^2", r"5\text{ m}^2", True),
    (r"5\text{ m}^2", "5 m^3", False),
    (r"5\text{ m}", "5 n", False),
    (r"5\text{ cm}", r"50\text{ mm}", False),
    ("90^\\circ", "90", True),
    ("5 dollars", r"\$5", True),
    # about
    ("14", r"\approx 14", True),
    ("3.14", "≈ 3.14", True),
    ("14", "about 14", True),
    ("14", r"\approx 15", False),
    # fractions, thousands, names
    (r"\frac12", r"\dfrac{1}{2}", True),
    ("1,000", "1000", True),
    ("1.000", "1000", False),
    ("x=5", "5", True),
    ("x=5", "y=5", False),
    # sets, intervals, matrices
    (r"\{1,2\}", r"\{2,1\}", True),
    ("[0,1]", "(0,1)", False),
    (r"(-\infty,3]", r"x \le 3", True),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", False),
]

DIFFERENT = [
    ("2^{2020}-1", "2^{2020}+1"),
    ("3^{100}", "3^{100}-1"),
    ("100!-1", "100!+1"),
    (r"\binom{200}{100}", r"\binom{200}{100}-1"),
    (r"1-\frac{1}{2^{200}}", "1"),
    # what math-verify lets through by its absolute precision
    ("1/2004!", "1/2006!"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    ("1/2^{99}", "1/2^{98}"),
    ("1e-20", "1e-21"),
    ("10^{-20}", "10^{-21}"),
    (r"\frac{\pi}{2^{99}}", r"\frac{\pi}{2^{98}}"),
    (r"\frac{x}{2^{99}}", r"\frac{x}{2^{98}}"),
    ("e^{-100}", "e^{-101}"),
    ("1-10^{-30}", "1"),
    # equations
    ("0=1", "0=2"),
    ("x^2+1=0", "x^2+2=0"),
    ("3", "1+1=3"),
    ("x+y=1", "1"),
    ("x=1", "x+y=1"),
    ("x+y=1", "2x+2y=3"),
    ("x=5", "y=5"),
    ("x=1,y=2", "x=2,y=1"),
    # sets, order, brackets, plus-minus
    (r"\{2,3,4\}", r"\{1,2,3\}"),
    (r"\pm 2021", "2021"),
    ("2021", r"\pm 2021"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("[1,2)", "(1,2]"),
    ("[1,2]", r"1< x\le 2"),
    ("1,2", "1,2,3"),
    ("1,2", "1"),
    ("(2,3),(3,2)", "(2,3),(2,3)"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    # numbers
    ("0.333", "1/3"),
    ("0.333333", r"\frac13"),
    ("50", "0.5"),
    ("1000", "1,001"),
    ("12_8", "12_9"),
    ("5 cm", r"5\text{ km}"),
    ("5m", "5"),
    ("100000000000000000001", "100000000000000000002"),
    # letters and words
    ("B", "C"),
    ("B", "12"),
    ("A", "(A) and (B)"),
    ("listen", "silent"),
    ("a+B", "A+b"),
    ("x_1", "x_2"),
    # algebra
    (r"\sqrt{2}", "1.414"),
    (r"\sqrt{2}", r"\sqrt{3}"),
    ("2\\pi", "6.28"),
    ("(x+1)^2", "x^2+2x+2"),
    ("|x|", "x"),
    ("x", "-x"),
    ("3+4i", "3-4i"),
    (r"\frac{x}{y}", r"\frac{y}{x}"),
    ("x>2", "x<2"),
    (r"\infty", r"-\infty"),
]


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_these_answers_are_right(gold, answer):
    assert compare(gold, answer, compare_symbolic).equal is True


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_these_answers_are_not_right(gold, answer):
    assert compare(gold, answer, compare_symbolic).equal is not True


@pytest.mark.parametrize(("gold", "answer", "right"), CONVENTIONS)
def test_where_habits_differ_the_conventions_are_these(gold, answer, right):
    assert (compare(gold, answer, compare_symbolic).equal is True) is right
    assert check_gold(gold) is None


@pytest.mark.parametrize(
    "gold",
    [
        "The cat sat on the mat because it was tired",
        "We show that the sequence converges, by induction on n",
        r"\text{the limit does not exist at all}",
        "Since x is even, the answer is 5",
    ],
)
def test_prose_is_no_gold_without_a_judge(gold):
    reason = check_gold(gold)

    assert "is prose of" in reason
    assert "verification.judge" in reason
    assert check_gold(gold, judged=True) is None


@pytest.mark.parametrize(
    ("gold", "words"),
    [
        ("5", 0),
        (r"\frac{\sqrt{3}}{2}", 0),
        (r"\sin x\cos x", 0),
        ("5 square centimeters", 0),
        ("Evelyn", 1),
        (r"\text{no solution}", 2),
        ("red, green, blue, yellow, black", 1),
        ("The cat sat down, and then it slept", 4),
    ],
)
def test_words_of_a_gold_are_counted_where_they_are_compared(gold, words):
    assert words_in_a_row(gold) == words


@pytest.mark.parametrize(("gold", "answer"), EQUAL + DIFFERENT)
def test_the_cheap_rungs_never_contradict_the_whole_ladder(gold, answer):
    cheap = compare(gold, answer)

    assert cheap is None or cheap == compare(gold, answer, compare_symbolic)


@pytest.mark.parametrize("gold", sorted({gold for gold, _ in EQUAL + DIFFERENT}))
def test_every_gold_here_verifies_against_itself(gold):
    assert check_gold(gold) is None


@pytest.mark.parametrize(
    ("gold", "answer", "method"),
    [
        ("7", "7", "string"),
        ("7", "7.0", "rational"),
        ("B", "(B)", "choice"),
        ("1,2", "2,1", "structure"),
        (r"\sqrt{8}", r"2\sqrt{2}", "math-verify"),
        (r"1,\sqrt{8}", r"2\sqrt{2},1", "math-verify"),
    ],
)
def test_the_method_names_the_rung_that_decided(gold, answer, method):
    assert compare(gold, answer, compare_symbolic).method == method


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("Evelyn", "Briana", "words"),
        ("B", "12", "names no letter"),
        ("5 cm", r"5\text{ km}", "cm"),
        ("x", "x^{+", "answer cannot be parsed"),
        ("x^{+", "x", "gold cannot be parsed"),
    ],
)
def test_what_rules_cannot_decide_stays_undecided_and_says_why(gold, answer, reason):
    outcome = compare(gold, answer, compare_symbolic)

    assert outcome.equal is None
    assert reason in outcome.error


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("$$", "nothing to compare"),
        (r"\text{}", "nothing to compare"),
        ("}{", "braces"),
        ("{", "braces"),
        ("1" * (MAX_ANSWER + 1), "characters"),
    ],
)
def test_a_gold_that_cannot_be_verified_against_is_refused(gold, reason):
    assert reason in check_gold(gold)


def test_an_answer_beyond_the_cap_is_not_compared():
    outcome = compare("1", "1" * (MAX_ANSWER + 1))

    assert outcome.equal is False
    assert "at most" in outcome.error


@pytest.mark.parametrize(
    "text", ["1e999999999", "9" * 1_500, "10^{999999999}", r"\frac{1}{10^{999999999}}", "(" * 900 + "1" + ")" * 900]
)
@pytest.mark.timeout(60)
def test_numbers_too_large_to_hold_are_left_to_the_killable_rung(text):
    assert rational(text) is None
    assert compare("1", text) is None


@given(st.integers(), st.integers())
def test_integers_are_equal_only_to_themselves(left, right):
    assert compare(str(left), str(right)).equal is (left == right)


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6), st.integers(1, 1000))
def test_every_way_to_write_a_fraction_is_equal(top, bottom, factor):
    gold = f"\\frac{{{top}}}{{{bottom}}}"
    for answer in (f"{top * factor}/{bottom * factor}", f"\\dfrac{{{-top}}}{{{-bottom}}}", f"({top})/{bottom}"):
        assert compare(gold, answer).equal is True
    assert compare(gold, f"{top + 1}/{bottom}").equal is False


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_a_decimal_has_the_value_it_spells(value):
    assert rational(f"{value:f}") == Fraction(f"{value:f}")


ALPHABET = st.sampled_from(
    ["1", "x", "\\frac", "{", "}", "(", ")", ",", "\\text{", "\\pm", "=", "%", "$", " ", "\\", "^", "_", "."]
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.one_of(st.text(max_size=60), st.lists(ALPHABET, max_size=40).map("".join)))
def test_no_text_breaks_the_cheap_rungs_and_a_gold_that_passes_equals_itself(text):
    normal_form(text)
    compare("1", text)
    compare(text, "1")
    if check_gold(text) is None:
        assert compare(text, text).equal is True
