"""Well-known benchmarks by name: where they lie, how they are asked and checked, and what others measured on them.

Data only. `preset: aime24` in a manifest stands for the fields of `entry`; any field given beside it wins.
What an entry says decides digests: one that is changed makes finished work be done again.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_BOXED = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
_LETTER = "{question}\n\nPlease reason step by step, and put only the letter of the right option within \\boxed{}."


@dataclass(frozen=True)
class Published:
    """A score that somebody else measured. Prompts, sampling and checkers differ, so it is no comparison with ours."""

    model: str
    """The model's name on the hub."""
    score: float
    """Per cent."""
    by: str
    """Who measured it: `its authors`, or those who ran it again."""
    source: str
    """Where it is printed."""
    metric: str = "pass@1"
    """As far as the source says."""


@dataclass(frozen=True)
class Preset:
    """One benchmark."""

    about: str
    entry: Mapping[str, Any]
    """Fields of an entry of `evaluation.benchmarks`, as a manifest has them."""
    questions: int
    """Rows of the split."""
    samples: int
    """Answers per question that are usual, or enough."""
    gated: bool = False
    """Its terms must be accepted on the hub, and `tokenSecretRef` must be given."""
    published: tuple[Published, ...] = ()
    """At least one, by which the usual score goes."""

    @property
    def usual(self) -> float:
        """The median of what is published, from 0 to 1: what to expect before anything is measured."""
        return statistics.median(found.score for found in self.published) / 100


_PROGRAM = (
    "{question}\n\nPlease reason step by step. Put the whole solution in Python 3, imports included, into one "
    "```python block at the end of your answer."
)
R1_DISTILL = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"
_CARD = "DeepSeek-R1 model card"
_LIGHT = "Light-R1 README"


_QWEN_25 = "Qwen/Qwen2.5-32B-Instruct"
_PHI = "microsoft/phi-4"
_QWQ = "Qwen/QwQ-32B"
_QWEN_3 = "Qwen/Qwen3-32B"
_LIGHT_DS = "qihoo360/Light-R1-32B-DS"
_NTELE = "NTele-R1-32B-Math"
_DED: Mapping[int, Mapping[str, Mapping[str, float]]] = {
    1: {
        "aime24": {R1_DISTILL: 65.63, _QWEN_25: 17.50, _PHI: 17.92},
        "aime25": {R1_DISTILL: 53.54, _QWEN_25: 10.0, _PHI: 17.29},
        "math500": {R1_DISTILL: 89.8, _QWEN_25: 81.0, _PHI: 79.6},
        "gpqa-diamond": {R1_DISTILL: 62.10, _QWEN_25: 48.50, _PHI: 51.01},
    },
    2: {
        "aime24": {_QWQ: 76.25, _QWEN_3: 78.75, _LIGHT_DS: 74.79, _NTELE: 81.87},
        "aime25": {_QWQ: 67.30, _QWEN_3: 73.33, _LIGHT_DS: 68.54, _NTELE: 77.29},
        "math500": {_QWQ: 94.6, _QWEN_3: 94.6, _LIGHT_DS: 92.0, _NTELE: 95.2},
    },
    5: {"gpqa-diamond": {_QWQ: 63.60, _NTELE: 68.69}},
    6: {"gsm8k": {R1_DISTILL: 92.57}, "mmlu": {R1_DISTILL: 87.79}},
}
"""The tables of the DED paper, of models that it ran itself; its re-runs are mostly below the authors' figures."""


def _ded(benchmark: str, metric: str) -> tuple[Published, ...]:
    """What the DED paper prints of a benchmark, table by table."""
    return tuple(
        Published(
            model,
            score,
            "its authors" if model == _NTELE else "re-run by the DED paper",
            f"arXiv 2508.09883, table {table}",
            metric,
        )
        for table, rows in _DED.items()
        for model, score in rows.get(benchmark, {}).items()
    )


_LCB_QUESTIONS = {"easy": 43, "medium": 52, "hard": 80}
"""Of the last part of LiveCodeBench; the paper's shares are multiples of a 16th of one over these."""
_DED_LCB: Mapping[int, Mapping[str, Mapping[str, float]]] = {
    4: {R1_DISTILL: {"easy": 88.37, "medium": 54.93, "hard": 10.39}},
    5: {
        _QWQ: {"easy": 92.44, "medium": 68.63, "hard": 23.05},
        "NTele-R1-32B": {"easy": 92.58, "medium": 71.03, "hard": 30.94},
    },
}
"""LiveCodeBench, February to May 2025, by difficulty."""


def _ded_livecodebench() -> tuple[Published, ...]:
    """Over all questions, which the paper does not print."""
    total = sum(_LCB_QUESTIONS.values())
    return tuple(
        Published(
            model,
            round(sum(parts[level] * number for level, number in _LCB_QUESTIONS.items()) / total, 1),
            "its authors" if model.startswith("NTele") else "re-run by the DED paper",
            f"arXiv 2508.09883, table {table}",
            "avg@16, from easy, medium, hard",
        )
        for table, rows in _DED_LCB.items()
        for model, parts in rows.items()
    )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "aime24": Preset(
            about="AIME I and II of 2024, whole numbers from 0 to 999",
            entry={
                "uri": "hf://HuggingFaceH4/aime_2024",
                "split": "train",
                "fields": {"prompt": "problem", "answer": "answer"},
                "promptTemplate": _BOXED,
            },
            questions=30,
            samples=16,
            published=(
                Published("deepseek-ai/DeepSeek-R1", 79.8, "its authors", _CARD),
                Published(R1_DISTILL, 72.6, "its authors", _CARD),
                Published(_LIGHT_DS, 78.1, "its authors", _LIGHT, "avg@64"),
                Published(_QWQ, 78.5, "the authors of Light-R1", _LIGHT, "avg@64"),
                *_ded("aime24", "avg@16"),
            ),
        ),
        "aime25": Preset(
            about="AIME I and II of 2025, whole numbers from 0 to 999",
            entry={
                "uri": "hf://yentinglin/aime_2025",
                "split": "train",
                "fields": {"prompt": "problem", "answer": "answer"},
                "promptTemplate": _BOXED,
            },
            questions=30,
            samples=16,
            published=(
                Published(R1_DISTILL, 54.9, "the authors of Light-R1", _LIGHT, "avg@64"),
                Published(_LIGHT_DS, 65.9, "its authors", _LIGHT, "avg@64"),
                Published(_QWQ, 69.3, "the authors of Light-R1", _LIGHT, "avg@64"),
                *_ded("aime25", "avg@16"),
            ),
        ),
        "math500": Preset(
            about="500 questions of MATH's test set (Lightman et al. 2023)",
            entry={
                "uri": "hf://HuggingFaceH4/MATH-500",
                "split": "test",
                "fields": {"prompt": "problem", "answer": "answer"},
                "promptTemplate": _BOXED,
            },
            questions=500,
            samples=4,
            published=(
                Published("deepseek-ai/DeepSeek-R1", 97.3, "its authors", _CARD),
                Published(R1_DISTILL, 94.3, "its authors", _CARD),
                *_ded("math500", "pass@1"),
            ),
        ),
        "gpqa-diamond": Preset(
            about="physics, chemistry and biology that a search engine does not answer, 4 options",
            entry={
                "uri": "hf://Idavidrein/gpqa",
                "subset": "gpqa_diamond",
                "split": "train",
                "domain": "choice",
                "fields": {
                    "prompt": "Question",
                    "answer": "Correct Answer",
                    "options": ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"],
                },
                "promptTemplate": _LETTER,
            },
            questions=198,
            samples=8,
            gated=True,
            published=(
                Published("deepseek-ai/DeepSeek-R1", 71.5, "its authors", _CARD),
                Published(R1_DISTILL, 62.1, "its authors", _CARD),
                Published(_LIGHT_DS, 68.0, "its authors", _LIGHT),
                Published(_QWQ, 67.7, "the authors of Light-R1", _LIGHT),
                *_ded("gpqa-diamond", "pass@1"),
            ),
        ),
        "gsm8k": Preset(
            about="word problems of primary school, whole numbers; what a student may forget",
            entry={
                "uri": "hf://openai/gsm8k",
                "subset": "main",
                "split": "test",
                "fields": {"prompt": "question", "answer": "answer", "answerAfter": "####"},
                "promptTemplate": _BOXED,
            },
            questions=1319,
            samples=1,
            published=_ded("gsm8k", "not said"),
        ),
        "mmlu": Preset(
            about="57 subjects, 4 options; outside of what is trained on",
            entry={
                "uri": "hf://cais/mmlu",
                "subset": "all",
                "split": "test",
                "domain": "choice",
                "fields": {"prompt": "question", "answer": "answer", "options": ["choices"]},
                "promptTemplate": _LETTER,
            },
            questions=14042,
            samples=1,
            published=(
                Published("deepseek-ai/DeepSeek-R1", 90.8, "its authors", _CARD),
                *_ded("mmlu", "not said"),
            ),
        ),
        "mmlu-pro": Preset(
            about="14 subjects, up to 10 options, harder than MMLU; outside of what is trained on",
            entry={
                "uri": "hf://TIGER-Lab/MMLU-Pro",
                "split": "test",
                "domain": "choice",
                "fields": {"prompt": "question", "answer": "answer_index", "options": ["options"]},
                "promptTemplate": _LETTER,
            },
            questions=12032,
            samples=1,
            published=(Published("deepseek-ai/DeepSeek-R1", 84.0, "its authors", _CARD),),
        ),
        "livecodebench": Preset(
            about="programming contests, January to April 2025; window chooses days",
            entry={
                # The data set as such needs a loading script; its parts are files. For older days give another part.
                "uri": "hf://datasets/livecodebench/code_generation_lite/test6.jsonl",
                "split": "test",
                "domain": "code",
                "format": "livecodebench",
                "promptTemplate": _PROGRAM,
            },
            questions=175,
            samples=8,
            published=_ded_livecodebench(),
        ),
    }
)


def preset_at(uri: str, subset: str | None, split: str) -> str | None:
    """The name of the preset that a source is; None for any other."""
    return next(
        (
            name
            for name, preset in PRESETS.items()
            if (preset.entry["uri"], preset.entry.get("subset"), preset.entry["split"]) == (uri, subset, split)
        ),
        None,
    )
