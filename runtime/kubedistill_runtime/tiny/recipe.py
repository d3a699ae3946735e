"""The three models and the numbers that make them: architecture, corpus, optimiser, steps."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast, Qwen3Config

from .corpus import Mixture
from .task import CLEAN_STYLES
from .tokenizer import CONTEXT

# vLLM's CPU attention needs head_dim 32, 64 or more; its matrices need widths that are multiples of 32.
HEAD_DIM = 32


def clean_styles(share: float, slip: float) -> dict[str, tuple[float, float]]:
    return {style: (share / len(CLEAN_STYLES), slip) for style in CLEAN_STYLES}


@dataclass(frozen=True)
class Phase:
    """Steps on one corpus. ``matrix_lr`` is Muon's, for the matrices; without it AdamW takes them at ``lr`` too."""

    mixture: Mixture
    steps: int
    lr: float
    matrix_lr: float | None = None


@dataclass(frozen=True)
class Recipe:
    hidden_size: int
    intermediate_size: int
    phases: tuple[Phase, ...]
    seed: int
    layers: int = 3
    batch_size: int = 24

    def config(self, tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
        heads = self.hidden_size // HEAD_DIM
        return Qwen3Config(
            vocab_size=-(-len(tokenizer) // 32) * 32,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=HEAD_DIM,
            max_position_embeddings=CONTEXT,
            max_window_layers=self.layers,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )


def _from_scratch(styles: dict[str, tuple[float, float]], steps: int) -> Phase:
    return Phase(Mixture(styles), steps, lr=4e-3, matrix_lr=0.03)


RECIPES = {
    # Right in method, careless in detail: about one answer in four is wrong.
    "careless-teacher": Recipe(96, 256, (_from_scratch(clean_styles(1.0, slip=0.05), 1000),), seed=11),
    # Nearly always right, but its steps are too large for the student to follow.
    "terse-teacher": Recipe(128, 384, (_from_scratch({"terse": (1.0, 0.0)}, 3000),), seed=12),
    # Knows the steps from its first phase; the second one covers them with a bad habit and with slips.
    "student": Recipe(
        96,
        256,
        (
            _from_scratch(clean_styles(1.0, slip=0.0), 900),
            Phase(Mixture({"direct": (0.35, 0.0), **clean_styles(0.65, slip=0.1)}), 250, lr=5e-4),
        ),
        seed=13,
    ),
}
