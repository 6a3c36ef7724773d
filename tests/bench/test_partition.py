"""What nft is told for each side that a pod is cut off from."""

import shutil
import subprocess

import pytest

from bench.faults.partition import SIDES, rules, table


@pytest.mark.parametrize("side", SIDES)
def test_the_kernel_takes_the_rules_and_forgets_the_pod_by_itself(side: str) -> None:
    text = rules(side, "10.9.0.5", ["10.9.0.6", "10.9.0.7"], "10.9.64.1", 120)
    assert "10.9.0.5 timeout 120s" in text
    assert ("6443" in text) == (side in ("api", "all"))
    assert ("10.9.64.1" in text) == (side == "clients")
    assert ("10.9.0.7" in text) == (side == "peers")
    own = table("10.9.0.5")
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    if nft is not None:  # in a network of its own, which ends with it
        argv = ["unshare", "--net", nft, "-f", "-"]
        done = subprocess.run(argv, input=f"{text}table {own}\ndelete table {own}\n", text=True, capture_output=True, check=False)
        assert done.returncode == 0 or "unshare" in done.stderr, done.stderr
