"""Tasks of the lm-evaluation-harness as benchmarks."""

from typing import Annotated

from pydantic import Field

from kubedistill_api.base import Model

HARNESS = "harness"
"""Stands for a domain where benchmarks are prepared: the harness asks the questions and judges the answers."""


class HarnessTask(Model):
    """A task that the lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness) asks and judges, with one
    answer to each question. The stages' image needs `kubedistill[harness]`."""

    task: str = Field(min_length=1, max_length=128, pattern=r"^[^\s,*?/\[\]]+$")
    """Name of a task, or of a group whose tasks' questions then all count alike: `arc_easy`, `mmlu`."""
    num_fewshot: Annotated[int, Field(ge=0, le=64)] | None = None
    """Solved examples before each question. Default: what the task says."""
    chat_template: bool = False
    """Ask in the student's chat template, with the examples as turns. Thoughts are then no part of the answer. Default:
    plain text that the model goes on with, which is what most published figures are for."""
    metric: str | None = Field(default=None, min_length=1, max_length=128)
    """Which of the task's metrics is the score; it must be 0 or 1 for each question. Default: the task's first."""
    filter: str | None = Field(default=None, min_length=1, max_length=128)
    """Which of the task's ways to find the answer in a response is judged. Default: the task's first."""
    max_tokens: Annotated[int, Field(ge=1, le=1048576)] | None = None
    """Longest response in tokens, for tasks that generate text. Default: what the task says, or the harness's 256:
    little for a student that thinks."""
