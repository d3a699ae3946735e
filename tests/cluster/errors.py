"""What goes wrong with the test cluster itself."""


class ClusterError(RuntimeError):
    """A part of the cluster cannot be built, started or reached. The message says which, and what to do."""
