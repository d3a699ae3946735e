"""Traces become what the student is trained on."""

from pathlib import Path
from typing import Any

import pytest

from kubedistill_runtime.data.encoding import chat_prompt, encode, full_response, load_tokenizer
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.tiny import embedded_path

RESPONSE = "<think>\n4+8=12\n12-3=9\n</think>\n\\boxed{9}"
OPENING_TEMPLATE = "{{ messages[0]['content'] }}{% if add_generation_prompt %}<think>\n{% endif %}"


@pytest.fixture
def tokenizer() -> Any:
    return load_tokenizer(embedded_path("models/student"))


def drawn(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


def test_the_light_tokenizer_is_the_one_that_transformers_chooses(tokenizer: Any) -> None:
    from transformers import AutoTokenizer

    chosen = AutoTokenizer.from_pretrained(embedded_path("models/student"))
    text, ids = chat_prompt(tokenizer, "Compute 4+8-3.")
    assert chosen.encode(text, add_special_tokens=False) == ids
    assert chosen.eos_token_id == tokenizer.eos_token_id


def test_ids_that_mean_the_same_to_the_student_are_kept_as_drawn(tokenizer: Any) -> None:
    text, ids = chat_prompt(tokenizer, "Compute 4+8-3.")
    own = drawn(tokenizer, RESPONSE)
    encoded = encode(tokenizer, text, ids, RESPONSE, own)
    assert encoded.as_drawn
    assert encoded.response_token_ids == own


def test_ids_of_another_tokenizer_are_encoded_anew_from_the_text(tokenizer: Any) -> None:
    text, ids = chat_prompt(tokenizer, "Compute 4+8-3.")
    for foreign in ([1, 2, 3], [10**6], []):
        encoded = encode(tokenizer, text, ids, RESPONSE, foreign)
        assert not encoded.as_drawn
        assert encoded.response_token_ids == drawn(tokenizer, RESPONSE)


def test_an_opening_tag_in_the_prompt_is_not_trained_on_twice(tokenizer: Any) -> None:
    tokenizer.chat_template = OPENING_TEMPLATE
    text, ids = chat_prompt(tokenizer, "Compute 4+8-3.")
    rest = RESPONSE.removeprefix("<think>\n")
    assert full_response(text, rest) == RESPONSE
    encoded = encode(tokenizer, text, ids, RESPONSE, drawn(tokenizer, rest))
    assert encoded.as_drawn
    assert tokenizer.decode([*ids, *encoded.response_token_ids]).count("<think>") == 1


def test_a_model_without_chat_template_is_refused_by_name(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(BadInput, match="has no chat template"):
        chat_prompt(tokenizer, "Compute 1+1.")


def test_a_folder_without_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the tokenizer cannot be loaded"):
        load_tokenizer(tmp_path)
