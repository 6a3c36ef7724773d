"""Running short programs."""

import subprocess
from collections.abc import Sequence
from typing import IO

from localcluster.errors import ClusterError, CommandError


def run(argv: Sequence[str], *, text: str | None = None, stdin: IO[bytes] | None = None, seconds: float = 60) -> str:
    """Runs `argv` (never through a shell) and gives its standard output.

    Raises CommandError when it fails, ClusterError when it is missing or does not end in time.
    """
    source: dict[str, object] = {"stdin": stdin or subprocess.DEVNULL} if text is None else {"input": text.encode()}
    try:
        done = subprocess.run(list(argv), capture_output=True, timeout=seconds, check=False, **source)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise ClusterError(f"{argv[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{argv[0]} did not end within {seconds:.0f} s") from None
    if done.returncode:
        raise CommandError(argv[0].rsplit("/", 1)[-1], done.returncode, done.stderr.decode(errors="replace"))
    output: bytes = done.stdout
    return output.decode(errors="replace")
