"""What can go wrong, as one line for the user: the cause and the remedy."""


class ClusterError(Exception):
    """The cluster cannot do what was asked; `str()` is one line that names the cause and, where there is one, the remedy."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}: {remedy}" if remedy else cause)


class CommandError(ClusterError):
    """A program ended with an error; `stderr` is all it said."""

    def __init__(self, program: str, code: int, stderr: str) -> None:
        lines = [line for line in stderr.strip().splitlines() if line.strip()]
        super().__init__(f"{program} failed with exit code {code}: {lines[-1] if lines else 'it said nothing'}")
        self.code = code
        self.stderr = stderr
