"""The kinds of failure that a stage names. Anything else is an application error."""


class BadInput(ValueError):
    """Something the user gave is wrong; trying again cannot help. The message names the field or file and the fix."""


class TryAgain(RuntimeError):
    """Something outside failed and may come back: a server, a disk, a network."""


class OutOfMemory(RuntimeError):
    """The kernel or the device had no memory left; the same start would end the same."""


MEMORY_ERRORS = ("OutOfMemoryError", "MemoryError", "CUDA out of memory", "CUDA error: out of memory")
"""Names and words of Python, torch, vLLM and Ray."""
DEATHS = ("SIGKILL", "exit code -9", "exit code 137", "ActorDiedError", "WorkerCrashedError", "BrokenProcessPool")


def memory_error(error: BaseException, *, kernel_killed: bool) -> OutOfMemory | None:
    """The error as one of memory, where it or a cause of it says so, or is of a process that died while the kernel
    killed for memory."""
    words = (*MEMORY_ERRORS, *DEATHS) if kernel_killed else MEMORY_ERRORS
    seen: BaseException | None = error
    while seen is not None:
        said = f"{type(seen).__name__}: {seen}"
        if any(word in said for word in words):
            last = said.strip().splitlines()[-1]
            found = next((line.strip() for line in said.splitlines() if any(word in line for word in words)), last)
            return OutOfMemory(f"{found}; the kernel killed for memory meanwhile" if kernel_killed else found)
        seen = seen.__cause__ or seen.__context__
    return None
