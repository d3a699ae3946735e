"""How the student is trained: supervised fine-tuning on verified traces."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from kubedistill_api.base import Model, Rule, later

MICRO_BATCH_TOKENS_MIN = 4096
"""Below this many tokens a forward pass costs more in launches than in arithmetic, so short contexts share one."""


class LoraSpec(Model):
    """Low-rank adapters (arXiv 2106.09685) in place of full fine-tuning. The exported model has them merged."""

    rank: int = Field(default=32, ge=1, le=1024)
    """Rank of the update. Default 32."""
    alpha: float = Field(default=64.0, gt=0)
    """The update is scaled by alpha / rank. Default 64, twice the rank."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the adapter's input, as a probability. Default 0: a few epochs on verified traces need none."""
    target_modules: tuple[str, ...] = ()
    """Names of the linear modules that get an adapter, for example `q_proj`. Default: every linear module of the
    decoder layers, never the embedding or the output head."""


class TrainingSpec(Model):
    """Full or low-rank supervised fine-tuning with FSDP2, packed sequences and a loss on response tokens only.

    Defaults follow the DED paper (arXiv 2508.09883, section 4) where it states a value; each field says where not.
    """

    epochs: int = Field(default=10, ge=1, le=1000)
    """Passes over the corpus. Default 10 (paper)."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after so many optimiser steps, even within an epoch; the schedule then ends there. Default: no limit."""
    learning_rate: float = Field(default=1e-5, gt=0, le=1.0)
    """Peak learning rate of AdamW. Default 1e-5 (paper)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up. Default `cosine` down to `minLrRatio`; the paper does not state it."""
    warmup_ratio: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of all steps over which the rate rises linearly. Default 0.1; the paper does not state it."""
    min_lr_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Where the cosine ends, as a share of the peak. Default 0."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay, on matrices only. Default 0; the paper does not state it."""
    adam_beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    """AdamW's first moment decay. Default 0.9."""
    adam_beta2: float = Field(default=0.999, ge=0.0, lt=1.0)
    """AdamW's second moment decay. Default 0.999."""
    adam_epsilon: float = Field(default=1e-8, gt=0.0)
    """AdamW's epsilon. Default 1e-8."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """The global gradient norm is clipped to this. Default 1.0."""
    global_batch_size: int = Field(default=48, ge=1)
    """Traces per optimiser step, over all GPUs. Default 48 (paper)."""
    context_length: int = Field(default=16384, ge=2)
    """Longest trace in tokens, prompt included. Default 16384 (paper)."""
    overlong: Literal["drop"] = "drop"
    """What happens to a longer trace: it is dropped and counted, never cut. A cut trace teaches not to finish."""
    micro_batch_tokens: int | None = Field(default=None, ge=2)
    """Tokens packed into one forward pass of one GPU, at least `contextLength`. Default: `contextLength`, and at least
    4096. It changes speed and memory, not the result."""
    strategy: Literal["fsdp2"] = "fsdp2"
    """How parameters, gradients and optimiser state are spread over GPUs."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of forward and backward; master weights, reductions and optimiser state are fp32 in any case.
    Default `auto`: bf16 on a GPU, fp32 on a CPU."""
    activation_checkpointing: Literal["none", "full", "selective"] = "full"
    """What the backward pass recomputes: `none` keeps all activations, `selective` recomputes the cheap operations
    and half of the matrix products, `full` recomputes whole layers. Default `full`. Ignored on a CPU."""
    compile: bool = False
    """Compile each decoder layer with torch.compile. Micro-batches are then padded to `microBatchTokens`. Default
    false: it pays off in runs of more than a few minutes on a GPU. Ignored on a CPU and with `attention: sdpa`."""
    attention: Literal["auto", "flash", "flex", "sdpa"] = "auto"
    """Kernel for packed attention. `auto`: flash attention on a GPU, one scaled-dot-product call per document on a
    CPU. `flex` and `sdpa` are for models and GPUs that flash attention does not take."""
    loss_chunk_tokens: int = Field(default=2048, ge=1)
    """Tokens whose logits exist at the same time. Default 2048; it bounds memory at chunk x vocabulary x 6 bytes."""
    lora: LoraSpec | None = None
    """Train adapters instead of all weights. Default: full fine-tuning (paper)."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of the batch order, of adapter initialisation and of dropout."""
    checkpoint_every_steps: int = Field(default=50, ge=1)
    """Optimiser steps between two checkpoints. Default 50."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints are kept. Default 2."""
    measure_corpus: bool = later(True)
    """Measure, before the first step, how likely the corpus is to the student (negative log-likelihood and entropy of
    each response token), and after the last, how far its hidden states moved. Default true: it costs about one forward
    pass over the corpus, and changes nothing in the training."""

    rules: ClassVar = (
        Rule(
            "!has(self.microBatchTokens) || self.microBatchTokens >= self.contextLength",
            "microBatchTokens must be at least contextLength: a trace is never split over two passes",
        ),
    )

    @model_validator(mode="after")
    def _micro_batch_holds_the_longest_trace(self) -> Self:
        if self.micro_batch_tokens is not None and self.micro_batch_tokens < self.context_length:
            raise ValueError(
                f"microBatchTokens ({self.micro_batch_tokens}) must be at least contextLength ({self.context_length}): "
                "a trace is never split over two passes"
            )
        return self

    @property
    def packed_tokens(self) -> int:
        """Tokens of one packed micro-batch: `microBatchTokens`, or its default."""
        return self.micro_batch_tokens or max(self.context_length, MICRO_BATCH_TOKENS_MIN)
