"""The tokenizer of the tiny models: 256 bytes, one token per digit, and one per word of the task.

Any text encodes, because every byte is a token. ``<think>``, ``</think>`` and ``\\boxed{`` are single tokens but not
special ones, so they survive ``skip_special_tokens``. Building it twice gives the same file.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
MARKS = ("<think>", "</think>", r"\boxed{")
WORDS = ("user\n", "assistant\n", "Compute", "plus", "minus", "total", "start", "add", "take", "get")
CONTEXT = 512

# ChatML, as Qwen's own templates write it.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|[A-Za-z]+\n?|[^A-Za-z\d]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[PAD, START, END],
        show_progress=False,
    )
    core.train_from_iterator(WORDS, trainer)
    core.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def render_prompt(question: str) -> str:
    """The text a model is trained after; equal to the chat template with ``add_generation_prompt``."""
    return f"{START}user\n{question}{END}\n{START}assistant\n"
