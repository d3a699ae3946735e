"""What the corpus is to the student before training, and how far training moves the student.

The DED paper (arXiv 2508.09883, section 4) explains afterwards why one teacher taught better than another by the token
entropy of its corpus and by a shift of hidden states. Here both are measured with every training, with the trainer's
own packing, attention and weights, at any world size:

- before the first step, teacher-forced over the whole corpus: negative log-likelihood of each response token, and
  entropy of the student's distribution at its place, in nats;
- before the first step and after the last: what each decoder layer gives over the first tokens of some traces.

The former are on the disk before training begins, so a run that is taken up again measures no trained model.
"""

import io
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.train.attention import Kernel
from kubedistill_runtime.train.batch import collate
from kubedistill_runtime.train.dataset import Dataset, Example
from kubedistill_runtime.train.distribution import Distribution
from kubedistill_runtime.train.job import TrainJob
from kubedistill_runtime.train.model import MicroBatch, Objective
from kubedistill_runtime.train.packing import Plan
from kubedistill_runtime.train.parallel import World
from kubedistill_runtime.train.shift import PROMPTS, TOKENS, main_axes, moved, shift

log = logging.getLogger(__name__)

PACKED_AT_ONCE = 1024
"""Examples that are packed together: more than make a step, so that few micro-batches are left half empty."""
DOCUMENTS = 16
"""Of them in one forward pass of one rank."""


class Covariates:
    """Measures one training, before and after. All ranks call it in unison."""

    def __init__(
        self, job: TrainJob, world: World, objective: Objective, dataset: Dataset, plan: Plan, kernel: Kernel
    ) -> None:
        self.job, self.world, self.objective, self.kernel = job, world, objective, kernel
        self.examples = dataset.examples
        self.plan = replace(plan, global_batch_size=PACKED_AT_ONCE)
        # Flex attention is compiled for each length that it meets.
        self.pad_to = plan.capacity if kernel == "flex" else 0
        for name in ("measures", "states"):
            register_fsdp_forward_method(objective, name)

    def before(self) -> None:
        """Measures the student as it is, and writes `base-measures.npz`; nothing where an earlier run left it.

        Weights that give no numbers leave no file: the first step says what is wrong with them.
        """
        if self._known():
            return
        started = time.perf_counter()
        nll, entropy = self._corpus()
        vectors_LKE = self._states()
        seconds = time.perf_counter() - started
        log.info("measured %d response tokens under the base student in %.1f s", nll.number, seconds)
        if not self.world.is_first or not math.isfinite(nll.mean + entropy.mean):
            return
        content = io.BytesIO()
        np.savez(
            content,
            identity=np.array(json.dumps(self.job.identity(), sort_keys=True)),
            nll=nll.sums,
            entropy=entropy.sums,
            seconds=seconds,
            axes=np.stack([main_axes(vectors_KE) for vectors_KE in vectors_LKE]),
            mean=vectors_LKE.mean(1, dtype=np.float64),
        )
        self.job.output_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(self.job.base_measures_path, content.getvalue())

    def after(self) -> dict[str, float]:
        """Measures the trained student and writes `covariates.json`. Returns its main figures, for the summary; on the
        first rank alone, and nothing where nothing was measured before."""
        if not self._known():
            return {}
        started = time.perf_counter()
        mean_LE = self._states().mean(1, dtype=np.float64)
        if not self.world.is_first:
            return {}
        with np.load(self.job.base_measures_path) as base:
            nll, entropy = Distribution(base["nll"]), Distribution(base["entropy"])
            moved_L2 = moved(base["axes"], base["mean"], mean_LE)
            seconds = float(base["seconds"]) + time.perf_counter() - started
        lengths = [example.targets for example in self.examples]
        content: dict[str, Any] = {
            "traces": len(lengths),
            "tokens": nll.number,
            "meanTokens": float(np.mean(lengths)),
            "nll": nll.to_json(),
            "entropy": entropy.to_json(),
            "shift": {
                "distance": shift(moved_L2),
                "layers": moved_L2.tolist(),
                "prompts": len(self._prompts()),
                "tokens": TOKENS,
            },
        }
        write_atomically(self.job.covariates_path, (json.dumps(content) + "\n").encode())
        return {
            "corpus_nll": content["nll"]["mean"],
            "corpus_entropy": content["entropy"]["mean"],
            "corpus_entropy_median": content["entropy"]["quantiles"]["50"],
            "corpus_mean_tokens": content["meanTokens"],
            "state_shift": content["shift"]["distance"],
            "measuring_seconds": seconds,
        }

    def _known(self) -> bool:
        """Whether the first rank sees what was measured of the base for this very training."""
        found = torch.zeros(1)
        path = self.job.base_measures_path
        if self.world.is_first and path.exists():
            with np.load(path) as base:
                found[0] = str(base["identity"]) == json.dumps(self.job.identity(), sort_keys=True)
        dist.broadcast(found, 0)
        return bool(found)

    def _corpus(self) -> tuple[Distribution, Distribution]:
        """Negative log-likelihood and entropy of all response tokens, each example once."""
        nll, entropy = Distribution(), Distribution()
        with self._measuring():
            for step in range(self.plan.steps_per_epoch):
                for members in self.plan.micro_batches(step)[self.world.rank]:
                    batch = self._batch([self.examples[i] for i in members])
                    found_2V = self.objective.measures(batch).cpu().numpy()
                    nll.add(found_2V[0])
                    entropy.add(found_2V[1])
        for one in (nll, entropy):
            self._sum(one.sums)
        return nll, entropy

    def _states(self) -> np.ndarray:
        """(layers, prompts, E): what each layer gives, averaged over the first tokens of each prompt."""
        prompts = self._prompts()
        together = DOCUMENTS * self.world.size
        out_LKE: np.ndarray | None = None
        with self._measuring():
            for start in range(0, len(prompts), together):
                mine = range(start, min(start + together, len(prompts)))[self.world.rank :: self.world.size]
                documents = [prompts[i] for i in mine]
                batch = self._batch(documents)
                found_LDE = self.objective.states(batch, [document.inputs for document in documents]).cpu().numpy()
                if out_LKE is None:
                    layers, _, width = found_LDE.shape
                    out_LKE = np.zeros((layers, len(prompts), width), np.float32)
                out_LKE[:, list(mine)] = found_LDE
        assert out_LKE is not None, "a corpus has a trace"
        self._sum(out_LKE)
        return out_LKE

    def _prompts(self) -> list[Example]:
        """The beginnings of traces at equal distances in the corpus: neighbours may be of one question."""
        count = min(PROMPTS, len(self.examples))
        chosen = np.linspace(0, len(self.examples) - 1, count).round().astype(int)
        heads = [self.examples[i].token_ids[:TOKENS] for i in chosen]
        # A document is an example without its last token; the one that is put behind stands for it.
        return [Example(np.append(head, head[-1:]), len(head)) for head in heads]

    def _batch(self, examples: Sequence[Example]) -> MicroBatch:
        return collate(examples, self.kernel, self.world.device, self.pad_to)

    def _sum(self, part: np.ndarray) -> None:
        """Adds up the ranks' parts in place."""
        if self.world.size > 1:
            dist.all_reduce(torch.from_numpy(part))

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """No gradients and no dropout. Afterwards the model is as it was, with its parameters sharded: what is loaded
        or stepped next must not meet a gathered copy."""
        # Compiling the layers once more, for a forward pass alone, takes longer than it saves. Flex attention is
        # nothing without its compiler.
        eager = self.objective.compiled and self.kernel != "flex"
        self.objective.eval()
        try:
            with torch.no_grad(), torch.compiler.set_stance("force_eager") if eager else nullcontext():
                yield
        finally:
            self.objective.train()
            for module in self.objective.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()
