"""Progress on standard error: a spinner on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

REPEAT_SECONDS = 30.0  # how often a long step says on plain output that it is still at work


class Progress:
    """Tells what is being done. Calling it prints one line; `step` frames what takes time."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        self._depth = 0

    def __call__(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """A step with its duration. The value is a function that shows a passing detail of it."""
        start = time.monotonic()
        if self._console.is_terminal and self._depth == 0:
            self._depth += 1
            try:
                with self._console.status(text) as status:
                    yield lambda detail: status.update(f"{text} [dim]{time.monotonic() - start:.0f} s  {detail}[/dim]")
            finally:
                self._depth -= 1
        else:
            said = start

            def detail_line(detail: str) -> None:
                nonlocal said
                if time.monotonic() - said >= REPEAT_SECONDS:
                    said = time.monotonic()
                    self(f"  {text}: {said - start:.0f} s so far, {detail}")

            self(f"{text} ...")
            yield detail_line
        self(f"{text}: {time.monotonic() - start:.1f} s")
