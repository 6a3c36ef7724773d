"""``./demo`` as a user at a terminal ends it: Ctrl-C at any moment leaves the machine as it was."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from localcluster import paths
from localcluster.demo.place import PROJECT
from tests.localcluster.machine import Machine, processes_of

NAME = "interrupted"
PATIENCE = 180.0  # seconds for a `down` with five databases in it


def demo(*argv: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell starts it at a terminal; its SIGINT is not ignored."""
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "localcluster.demo", *argv],
        cwd=PROJECT,
        env={**os.environ, "LOCALCLUSTER": NAME},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


@pytest.mark.pods
@pytest.mark.long
@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9])
def test_ctrl_c_leaves_the_machine_clean(share: float) -> None:
    """At a share of the half minute that a warm demo takes, give or take; the terminal signals all processes of the group."""
    before = Machine.now(NAME)
    running = demo()
    time.sleep(0.5 + share * 30 + random.uniform(0, 2))
    interrupted = running.poll() is None
    if interrupted:
        os.killpg(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == (130 if interrupted else 0), said
    assert "Traceback" not in said
    down = demo("down")
    said, _ = down.communicate(timeout=PATIENCE)
    assert down.returncode == 0, said
    assert processes_of(paths.clusters() / NAME) == []
    assert not (paths.clusters() / NAME).exists()
    assert Machine.now(NAME) == before
