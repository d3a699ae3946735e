"""What a response says, as text that is equal where answers are equal: the ballot of majority@k."""

from kubedistill_runtime.verify.answer import extract_answer
from kubedistill_runtime.verify.choice import extract_choice
from kubedistill_runtime.verify.normal import normal_form
from kubedistill_runtime.verify.rational import rational

VOTING = ("math", "choice")
"""Domains whose answers can be equal. Two programs are never the same answer."""


def vote(domain: str, response: str) -> str:
    """The exact rational or the normal form of a math answer, or the letter; empty where there is no answer.

    No gold is looked at, and no algebra done: answers that only algebra shows to be equal are counted apart. Units and
    names (`x = ...`) are not part of it. Raises ValueError for a domain outside of VOTING.
    """
    if domain == "choice":
        return extract_choice(response).letter or ""
    if domain != "math":
        raise ValueError(f"answers of domain {domain} cannot be counted")
    answer = extract_answer(response).text
    if answer is None:
        return ""
    form = normal_form(answer)
    value = rational(form.spaced)
    if value is not None and form.percent and abs(value) < 1:
        value /= 100  # 0.5% is no 0.5, but 50% may be written as 50
    return form.text.casefold() if value is None else str(value)
