"""The two kinds of failure that a stage names. Anything else is an application error."""


class BadInput(ValueError):
    """Something the user gave is wrong; trying again cannot help. The message names the field or file and the fix."""


class TryAgain(RuntimeError):
    """Something outside failed and may come back: a server, a disk, a network."""
