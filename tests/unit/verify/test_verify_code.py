"""Finding the program in a response, and comparing what it printed or returned. Runs nothing."""

import pytest

from kubedistill_runtime.verify.code import MAX_SOURCE, Program, extract_program, same_output, same_value


def block(source: str, label: str = "python") -> str:
    return f"```{label}\n{source}\n```\n"


def test_the_last_python_block_after_the_thinking_is_taken():
    response = f"<think>{block('print(0)')}</think>First {block('print(1)')}But better: {block('print(2)')}Done."

    assert extract_program(response) == Program("python", "print(2)\n")


def test_a_block_inside_the_thinking_is_never_taken():
    assert "no closed code block" in extract_program(f"<think>{block('print(0)')}</think>I am done.")


@pytest.mark.parametrize(
    ("label", "source", "language"),
    [
        ("py", "print(1)", "python"),
        ("Python3", "print(1)", "python"),
        ("cpp", "int main(){}", "cpp"),
        ("C++", "int main(){}", "cpp"),
        *((label, "int main(){}", "cpp") for label in ("c++11", "c++14", "C++17", "c++2a", "cpp14", "cpp17", "cxx")),
        *((label, "print(1)", "python") for label in ("python", "py3", "python3.11", "pypy3", "Python2")),
        ("", "print(1)", "python"),
        ("", "#include <cstdio>\nint main(){}", "cpp"),
    ],
)
def test_the_label_or_the_source_tells_the_language(label, source, language):
    assert extract_program(block(source, label)).language == language


def test_sample_output_in_an_unlabelled_block_does_not_hide_the_program():
    assert extract_program(block("print(1)") + "It prints\n" + block("1", "")).source == "print(1)\n"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("<think>```python\nprint(1)\n```", "truncated"),
        ("</think>```python\nprint(1)", "no closed code block"),
        *(
            ("</think>" + block("1", label), "no closed code block")
            for label in ("sql", "c", "cs", "pycon", "cppcheck")
        ),
        ("</think>" + block("#" * MAX_SOURCE), "characters"),
    ],
)
def test_a_response_without_a_program_says_why(response, reason):
    assert reason in extract_program(response)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("1 2\n3\n", "1 2\n3"),
        ("1 2", "1  2  \n\n\n"),
        ("1\r\n2\r\n", "1\n2\n"),
        ("", "\n"),
        ("0.5", "0.50000001"),
        ("1e-3", "0.001"),
        ("1000000.5", "1000000.9"),
        ("2.0", "2"),
    ],
)
def test_equal_outputs(expected, printed):
    assert same_output(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("1 2 3", "1 2"),
        ("1\n2\n3", "1\n2"),
        ("1\n2", "1\n2\n3"),
        ("1 2", "1\n2"),
        ("", "1"),
        ("1", ""),
        ("3", "3.0"),
        ("3", "3.0000001"),
        ("0.5", "0.51"),
        ("0.5", "nan"),
        ("0.5", "inf"),
        ("0.5", "1e999999"),
        ("YES", "Yes"),
    ],
)
def test_different_outputs(expected, printed):
    assert not same_output(expected, printed)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (1, 1),
        (True, True),
        (True, 1),
        (None, None),
        ("a", "a"),
        (0.5, 0.5000000001),
        (2.0, 2),
        ([1, [2, 3]], [1, [2, 3]]),
        ({"a": [1]}, {"a": [1]}),
    ],
)
def test_equal_values(expected, value):
    assert same_value(expected, value)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (1, "1"),
        ([1, 2], [1]),
        ([1, 2], [2, 1]),
        ([1], 1),
        (None, 0),
        ("", None),
        (0.5, float("nan")),
        (float("nan"), float("nan")),
        ({"a": 1}, {"a": 1, "b": 2}),
    ],
)
def test_different_values(expected, value):
    assert not same_value(expected, value)
