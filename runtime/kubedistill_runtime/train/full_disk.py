"""Whether a training ended because its disk took no more, by what Python, PyTorch and safetensors say then."""

import os
from errno import EDQUOT, ENOSPC
from pathlib import Path

from kubedistill_runtime.data.storage import no_space
from kubedistill_runtime.errors import TryAgain

SAID = (os.strerror(ENOSPC), os.strerror(EDQUOT), "inline_container.cc")
"""The last one is the writer of PyTorch's files, which finds fewer bytes written than it wrote and does not say why."""


def full_disk(error: BaseException, folder: Path) -> TryAgain | None:
    """The error as one of the disk of `folder`, where it or a cause of it says so. The text of an error of a checkpoint
    holds those of its failures."""
    seen: BaseException | None = error
    while seen is not None:
        if any(words in str(seen) for words in SAID):
            return no_space(folder)
        seen = seen.__cause__ or seen.__context__
    return None
