"""How questions and traces look in a terminal."""

import json

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from kubedistill_runtime.cli.trace_data import Fate, Question, Trace

TESTS_SHOWN = 2
RULE = "─" * 40


def question_view(question: Question) -> RenderableType:
    """Text, gold, pass rate and fate of a question."""
    head = Text.assemble(
        (f"question {question.number}", "bold"),
        (f"  {question.id}  {question.domain}", "dim"),
        f"  {question.correct} of {question.drawn} correct",
    )
    if question.pass_rate is not None:
        head.append(f"  student {question.pass_rate:.0%}")
    if question.fate:
        head.append_text(_fate(question.fate))
    parts: list[RenderableType] = [
        Text(RULE, style="dim"),
        head,
        Padding(Text(question.text), (0, 0, 0, 2), expand=False),
    ]
    if question.gold is not None:
        parts.append(Text.assemble(("gold: ", "bold"), question.gold))
    if question.tests:
        parts.append(_tests(question.tests))
    return Group(*parts)


def trace_view(trace: Trace, curated: bool) -> RenderableType:
    """Header and text of one trace."""
    return Group(trace_header(trace, curated), Padding(thinking_dimmed(trace.response), (0, 0, 1, 2), expand=False))


def trace_header(trace: Trace, curated: bool) -> Text:
    """Sample, length, verdict and fate in one line."""
    verdict = ("correct", "green") if trace.correct else ("wrong", "red")
    length = "" if trace.tokens is None else f"{trace.tokens} tokens  "
    head = Text.assemble((f"sample {trace.sample}", "bold"), f"  {length}", verdict)
    if trace.method:
        head.append(f" ({trace.method})", style="dim")
    if trace.finish_reason != "stop":
        head.append(f"  finish: {trace.finish_reason}", style="yellow")
    if trace.surplus:
        head.append("  surplus: enough were verified before it", style="yellow")
    if trace.error:
        head.append(f"  {trace.error}", style="yellow")
    if trace.fate:
        head.append_text(_fate(trace.fate))
    elif not curated:
        head.append("  not curated yet", style="dim")
    return head


def thinking_dimmed(response: str) -> Text:
    """The response, its thinking dimmed, so that the answer stands out."""
    thinking, closed, answer = response.rpartition("</think>")
    return Text.assemble((thinking + closed, "dim"), answer) if closed else Text(response)


def _fate(fate: Fate) -> Text:
    if fate.kept:
        return Text.assemble("  ", ("kept", "bold green"), (f" {fate.text}" if fate.text else "", "dim"))
    return Text.assemble("  ", ("dropped", "bold red"), f" at {fate.stage}: {fate.reason}", (f" - {fate.text}", "dim"))


def _tests(tests: str) -> RenderableType:
    data = json.loads(tests)
    count = len(data["inputs"])
    shown = [
        Text(f"  {given!r} -> {expected!r}", style="dim", overflow="ellipsis", no_wrap=True)
        for given, expected in list(zip(data["inputs"], data["outputs"], strict=False))[:TESTS_SHOWN]
    ]
    name = f", function {data['fn_name']}" if data.get("fn_name") else ""
    return Group(Text.assemble(("tests: ", "bold"), f"{count}{name}"), *shown)


def lines_of(console: Console, view: RenderableType, width: int) -> list[str]:
    """A view as lines of a terminal of that width, with their colours."""
    with console.capture() as captured:
        console.print(view, width=width)
    return captured.get().split("\n")[:-1]
