"""The harness's interface to a model, over our engines: it asks in text, they answer in token ids."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from kubedistill_api.harness import HARNESS
from kubedistill_runtime.engines.base import Completion, Draw, Request
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.sampling.draw import seed_of
from kubedistill_runtime.sampling.serving import Prompt, Prompter
from kubedistill_runtime.verify.answer import answer_section

Ask = Callable[[Sequence[Request]], Mapping[str, Completion]]
"""Answers all requests, by their ids."""
Instance = Any
"""An `lm_eval.api.instance.Instance`: one request."""

KNOWN = {"do_sample", "until", "max_gen_toks", "temperature", "top_p", "top_k"}
"""Settings of a generation that our engines have."""
GREEDY = Draw(temperature=0.0, top_p=1.0, top_k=0, max_tokens=1, seed=0)


@dataclass(frozen=True)
class Said:
    """What a model said to one question: its response, or the option that it finds likeliest."""

    text: str
    tokens: int
    """Drawn; 0 for an option."""
    truncated: bool
    seed: int
    error: str | None = None


class EngineLM(TemplateLM):
    """A model whose engines run. `said` has its answers by (task, number of the question)."""

    def __init__(self, prompter: Prompter, ask: Ask, max_model_len: int, *, chat_template: bool, seed: int) -> None:
        super().__init__()
        self.tokenizer = prompter.tokenizer
        self.said: dict[tuple[str, int], Said] = {}
        self._prompter = prompter
        self._ask = ask
        self._max_model_len = max_model_len
        self._chat_template = chat_template
        self._seed = seed

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids. A chat template writes its special tokens itself, and they are not added once more."""
        special = not self._chat_template if add_special_tokens is None else add_special_tokens
        return list(self.tokenizer.encode(string, add_special_tokens=special))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if not self.tokenizer.chat_template:
            raise BadInput("harness.chatTemplate: the student has no chat template; set it to false")
        text = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return str(text)

    def longest(self, instances: Sequence[Instance]) -> int:
        """Tokens of the longest request with its response."""
        return max((self._length(instance) for instance in instances), default=0)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        drawn = [self._drawing(number, instance) for number, instance in enumerate(requests)]
        completions = self._ask([request for request, _ in drawn])
        answers = []
        for instance, (request, until) in zip(requests, drawn, strict=True):
            completion = completions[request.id]
            prompt = Prompt(request.prompt, request.prompt_token_ids)
            (text,) = self._prompter.responses([prompt], [completion.token_ids])
            self.said[instance.task_name, instance.doc_id] = Said(
                text,
                completion.completion_tokens,
                completion.finish_reason == "length",
                request.draw.seed,
                completion.error,
            )
            answers.append(postprocess_generated_text(_after_thoughts(text), until, None))
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        best: dict[tuple[str, int], float] = {}
        for instance, (logprob, _) in zip(requests, found, strict=True):
            key = (instance.task_name, instance.doc_id)
            if logprob > best.get(key, -math.inf):
                best[key] = logprob
                self.said[key] = Said(instance.args[1].strip(), 0, truncated=False, seed=0)
        return found

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        asked = []
        for number, (_, context, continuation) in enumerate(requests):
            # The engine draws one token, whose place is not the prompt's. What is too long loses its beginning.
            ids = (context + continuation)[-(self._max_model_len - 1) :]
            start = max(1, len(ids) - len(continuation))
            asked.append(Request(f"{HARNESS}/{number}", "", tuple(ids), GREEDY, score_from=start))
        completions = self._ask(asked)
        ordered = [completions[request.id] for request in asked]
        if failed := next((one.error for one in ordered if one.error), None):
            # An option without its probability would be taken for the likeliest, or for the least likely.
            raise TryAgain(f"the engine did not score an option: {failed}")
        return [(sum(completion.logprobs), completion.likeliest) for completion in ordered]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise BadInput("the harness asks for a perplexity, which is not right or wrong; leave the task out")

    def _length(self, instance: Instance) -> int:
        if instance.request_type == "generate_until":
            context, settings = instance.args[:2]
            return len(self.tok_encode(context)) + int(_settings(settings, instance)["max_gen_toks"])
        return len(self.tok_encode("".join(instance.args[:2]))) + 1

    def _drawing(self, number: int, instance: Instance) -> tuple[Request, list[str]]:
        context, given = instance.args[:2]
        settings = _settings(given, instance)
        until = [stop for stop in settings["until"] if stop]
        ids = self.tok_encode(context)[-(self._max_model_len - 1) :]
        draw = Draw(
            temperature=float(settings["temperature"]),
            top_p=float(settings.get("top_p", 1.0)),
            top_k=int(settings.get("top_k", 0)),
            max_tokens=min(int(settings["max_gen_toks"]), self._max_model_len - len(ids)),
            seed=seed_of(self._seed, f"{instance.task_name}/{instance.doc_id}", number),
            # Thoughts may well hold what ends an answer.
            stop=() if self._chat_template else tuple(until),
        )
        return Request(f"{HARNESS}/{number}", context, tuple(ids), draw), until


def _settings(given: Mapping[str, Any], instance: Instance) -> dict[str, Any]:
    settings: dict[str, Any] = dict(normalize_gen_kwargs(dict(given)))
    unknown = sorted(settings.keys() - KNOWN)
    if unknown:
        raise BadInput(
            f"harness task {instance.task_name}: its generation_kwargs {', '.join(unknown)} are not known here; known: "
            f"{', '.join(sorted(KNOWN))}"
        )
    return settings


def _after_thoughts(text: str) -> str:
    """What the harness's filters see. Thinking is never searched, and one that does not end has no answer."""
    if "<think>" not in text and "</think>" not in text:
        return text
    section, _ = answer_section(text)
    return (section or "").lstrip()
