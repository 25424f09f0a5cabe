"""What ends a run."""


class BenchFailed(RuntimeError):
    """The text says what failed."""
