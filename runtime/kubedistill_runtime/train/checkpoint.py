"""Checkpoints: written in the background, counted only once complete, loaded at any world size.

A checkpoint is a folder `step-00000050` of PyTorch's distributed checkpoint format. It is written as
`step-00000050.tmp` and renamed when every rank has written and synced its part, so what has its final name is whole.
"""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.optim import Optimizer
from kubedistill_runtime.train.parallel import World

PREFIX = "step-"
UNCOMMITTED = ".tmp"
ABOUT = "about.json"


def committed_steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, rising."""
    if not folder.is_dir():
        return []
    names = [p.name.removeprefix(PREFIX) for p in folder.iterdir() if p.name.startswith(PREFIX)]
    return sorted(int(name) for name in names if name.isdecimal())


class Checkpointer:
    """Saves and restores the trainable parameters, AdamW's moments and the step of one run.

    `identity` is stored with each checkpoint; `before_commit` runs on the first rank before one counts.
    """

    def __init__(
        self,
        folder: Path,
        world: World,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        keep: int,
        identity: dict[str, object],
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self.world = world
        self.model = model
        self.optimizer = optimizer
        self.keep = keep
        self.identity = identity
        self.before_commit = before_commit
        # The background writer needs collectives of its own: those of two threads in one group would interleave.
        self._group = dist.new_group(backend="gloo")
        self._pending: tuple[int, Future[Any]] | None = None
        if world.is_first:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob("*" + UNCOMMITTED):
                shutil.rmtree(leftover)
        dist.barrier(self._group)

    def latest(self) -> int:
        """The newest committed step as the first rank sees it, 0 where there is none.

        Raises BadInput where it belongs to a run of another identity.
        """
        found = torch.zeros(2, dtype=torch.int64)
        if self.world.is_first:
            found[0] = max(committed_steps(self.folder), default=0)
            if found[0]:
                about = json.loads((self._path(int(found[0])) / ABOUT).read_text())
                found[1] = about["identity"] != self.identity
        dist.broadcast(found, 0, group=self._group)
        if found[1]:
            raise BadInput(f"{self.folder} holds checkpoints of another training: use another output folder")
        return int(found[0])

    def load(self, step: int) -> None:
        """Restores a committed step in place, whatever the world size that wrote it."""
        import torch.distributed.checkpoint as dcp

        dcp.load(self._state(), checkpoint_id=self._path(step), process_group=self._group)
        self.optimizer.set_steps(step)

    def save(self, step: int) -> None:
        """Copies the state to host memory and starts writing it. Waits for the write before, if it still goes on."""
        import torch.distributed.checkpoint as dcp

        self.wait()
        path = self._path(step).with_name(self._path(step).name + UNCOMMITTED)
        if self.world.is_first:
            path.mkdir(exist_ok=True)  # by another rank that came first
            (path / ABOUT).write_text(json.dumps({"world_size": self.world.size, "identity": self.identity}))
        self._pending = step, dcp.async_save(self._state(), checkpoint_id=path, process_group=self._group)

    def poll(self) -> None:
        """Commits the checkpoint under way if it is complete; raises what its writer raised."""
        if self._pending is not None and self._pending[1].done():
            self.wait()

    def wait(self) -> None:
        """Waits for the checkpoint under way and commits it."""
        if self._pending is None:
            return
        step, future = self._pending
        future.result()
        self._pending = None
        if self.world.is_first:
            self.before_commit()
            path = self._path(step)
            path.with_name(path.name + UNCOMMITTED).rename(path)
            _sync_folder(self.folder)
            self._remove_old()

    def _path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step:08d}"

    def _remove_old(self) -> None:
        for step in committed_steps(self.folder)[: -self.keep]:
            # Renamed first: a folder that is half deleted must not count.
            dying = self._path(step).with_name(self._path(step).name + UNCOMMITTED)
            self._path(step).rename(dying)
            shutil.rmtree(dying)

    def _state(self) -> dict[str, Any]:
        names = self.optimizer.parameters
        return {"model": {name: p.detach() for name, p in names.items()}, "optimizer": self.optimizer.state()}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
