"""Which failures have a second chance: pytest runs files of its own here."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.late import worth_another

PROJECT = Path(__file__).resolve().parents[1]
CONFTEST = """
from tests.late import Late, Watcher

def pytest_configure(config):
    config.pluginmanager.register(Watcher(config))
"""
LATE = "def test_late():\n    raise Late('nothing came')\n"
WRONG = "def test_wrong():\n    assert 1 == 2\n"
LEAK = "@pytest.fixture\ndef leaking():\n    yield\n    assert False\n\ndef test_leak(leaking):\n    raise Late('nothing came')\n"
GOOD = "def test_good():\n    pass\n"


@pytest.mark.parametrize(
    ("tests", "expected", "workers"),
    [
        (LATE + GOOD, ["test_it.py::test_late"], ["-n", "2"]),
        (LATE + WRONG, [], ["-n", "2"]),
        (LATE + LEAK, [], []),
        ("".join(LATE.replace("late()", f"late{n}()") for n in range(4)), [], []),
    ],
    ids=["late", "late and wrong", "late and a leak", "four late"],
)
def test_only_a_few_tests_that_waited_in_vain_are_worth_another_try(
    tmp_path: Path, tests: str, expected: list[str], workers: list[str]
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(f"import pytest\nfrom tests.late import Late\n\n{tests}")
    command = [sys.executable, "-m", "pytest", "-q", f"--rootdir={tmp_path}", *workers, str(tmp_path)]
    code = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)}, check=False, capture_output=True).returncode
    assert code == 1
    assert worth_another(tmp_path / ".pytest_cache") == expected
