"""From traces to what a student is trained on: its own prompt, and the response in its own tokens.

The student is evaluated with its own chat template, so it is trained with it. The response keeps the token ids that
the teacher drew where they mean the same to the student: encoding text again can cut it differently than it was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kubedistill_runtime.errors import BadInput

OPENING = "<think>"


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    chat_template: str | None
    eos_token_id: int | None
    name_or_path: str

    def __len__(self) -> int: ...
    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: object) -> object: ...
    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], **kwargs: object) -> str: ...


@dataclass(frozen=True)
class Encoded:
    """One trace for the student."""

    prompt_token_ids: list[int]
    response_token_ids: list[int]
    """Ends with the student's end-of-sequence token."""
    as_drawn: bool
    """The response's ids are the teacher's own."""


def load_tokenizer(path: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model's folder. Raises BadInput when it cannot be loaded.

    `AutoTokenizer` imports torch and the models, 15 s of CPU time; a `tokenizer.json` needs none of it.
    """
    try:
        if (path / "tokenizer.json").exists() and not trust_remote_code:
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(path)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: the tokenizer cannot be loaded: {error}") from error


def chat_prompt(tokenizer: Tokenizer, prompt: str) -> tuple[str, list[int]]:
    """The prompt as the model is asked: as text and as token ids.

    Raises BadInput when the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise BadInput(
            f"{tokenizer.name_or_path} has no chat template, so it cannot be asked questions; use a model whose "
            "tokenizer_config.json or chat_template.jinja has one, or add one to the model's folder"
        )
    conversation = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    # The template writes its own special tokens; adding them a second time would double the first one.
    return text, tokenizer.encode(text, add_special_tokens=False)


def opens_thinking(prompt_text: str) -> bool:
    """The template ends the prompt with the opening tag, so that a response starts inside it."""
    return prompt_text.rstrip().endswith(OPENING)


def full_response(prompt_text: str, drawn: str) -> str:
    """The response with its opening tag, wherever the template put it."""
    return f"{OPENING}\n{drawn}" if opens_thinking(prompt_text) else drawn


def encode(
    tokenizer: Tokenizer, prompt_text: str, prompt_token_ids: list[int], response: str, drawn: Sequence[int]
) -> Encoded:
    """One trace for the student. `response` is the full response's text, `drawn` the teacher's ids (may be empty)."""
    if tokenizer.eos_token_id is None:
        raise BadInput(f"{tokenizer.name_or_path} has no end-of-sequence token, so it could never end a response")
    target = response
    if opens_thinking(prompt_text):
        target = response.removeprefix(OPENING).removeprefix("\n")
    for body in (drawn[:-1], drawn):  # with and without the teacher's own end-of-sequence token
        if len(body) and max(body) < len(tokenizer) and tokenizer.decode(body, skip_special_tokens=False) == target:
            return Encoded(prompt_token_ids, [*body, tokenizer.eos_token_id], as_drawn=True)
    ids = tokenizer.encode(target, add_special_tokens=False)
    return Encoded(prompt_token_ids, [*ids, tokenizer.eos_token_id], as_drawn=False)
