"""Process 1 of the container: passes signals on and takes in orphans.

Patroni cannot be process 1 itself: the postmaster is an orphan by design, so it would become Patroni's own child,
which Patroni takes for a stranger (``PostmasterProcess._is_postmaster_process``).
"""

import os
import signal
from collections.abc import Callable
from types import FrameType

# what the kubelet may send (the official image names SIGINT as its stop signal) -> what Patroni takes for an orderly end
FORWARDED = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGTERM, signal.SIGQUIT: signal.SIGTERM, signal.SIGHUP: signal.SIGHUP}


def run(program: Callable[[], int]) -> int:
    """``program``'s exit status, 128 + n for signal n. Where this is not process 1 there is nothing to do beside it."""
    if os.getpid() != 1:
        return program()
    child = 0

    def forward(number: int, frame: FrameType | None) -> None:
        if child:
            os.kill(child, FORWARDED[signal.Signals(number)])

    for number in FORWARDED:  # before the fork: process 1 never gets a signal that it has no handler for
        signal.signal(number, forward)
    child = os.fork()  # no thread has been started yet
    if child == 0:
        for number in FORWARDED:
            signal.signal(number, signal.SIG_DFL)
        os._exit(_guarded(program))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _guarded(program: Callable[[], int]) -> int:
    """An exit status in place of everything that leaves ``program``: a fork must not run its parent's way out."""
    try:
        return program()
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            os.write(2, f"{exit_.code}\n".encode())
            return 1
        return exit_.code or 0
    except BaseException:  # noqa: BLE001  the only frame above is the fork's end
        import traceback

        traceback.print_exc()
        return 1
