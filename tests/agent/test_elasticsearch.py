"""Elasticsearch's agent: the files a node starts from, and a node's life, with a stand-in for the program."""

import base64
import hashlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.elasticsearch import files, main
from agent.elasticsearch.files import Places, password_hash, write_configuration


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(
        home=tmp_path / "home",
        config=tmp_path / "config",
        settings=tmp_path / "settings",
        credentials=tmp_path / "credentials",
        internal=tmp_path / "internal",
    )
    made.config.mkdir()
    write(made.home / "config" / "jvm.options", "-XX:+UseG1GC\n")
    write(made.home / "config" / "elasticsearch.yml", "cluster.name: image\n")
    write(made.home / "config" / "roles.yml", "reader:\n  cluster: []\n")
    write(made.home / "config" / "analysis" / "words.txt", "a\n")
    write(made.settings / "elasticsearch.yml", 'cluster.name: "shop"\n')
    write(made.settings / "database-operator.options", "-Xms512m\n")
    write(made.credentials / "password", "pässword")
    write(made.internal / "operator-password", "internal")
    for name in ("ca.crt", "ca.key", "node.crt", "node.key"):
        write(made.internal / name, f"{name}\n")
    return made


def verifies(line: str, password: str) -> bool:
    """As Hasher.java does for {PBKDF2}."""
    _, cost, salt, digest = line.strip().replace("}", "$").split("$")
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), base64.b64decode(salt), int(cost), len(base64.b64decode(digest)))
    return made == base64.b64decode(digest)


def users(places: Places) -> dict[str, str]:
    return dict(line.split(":", 1) for line in (places.config / "users").read_text().splitlines())


def test_a_hash_known_to_elasticsearch() -> None:
    made = password_hash("test123", bytes(32))
    assert made.startswith("{PBKDF2}10000$AAAA")
    assert len(made) == len("{PBKDF2}10000$") + 44 + 1 + 44
    assert verifies(made, "test123")
    assert not verifies(made, "test124")


def test_configuration_is_the_images_with_the_operators_over_it(places: Places) -> None:
    write_configuration(places)
    assert (places.config / "jvm.options").read_text() == "-XX:+UseG1GC\n"
    assert (places.config / "analysis" / "words.txt").exists()
    assert (places.config / "elasticsearch.yml").read_text() == 'cluster.name: "shop"\n'
    assert (places.config / "jvm.options.d" / "database-operator.options").read_text() == "-Xms512m\n"
    roles = (places.config / "roles.yml").read_text()
    assert roles.startswith("reader:")
    assert "\ndatabase-operator:\n" in roles
    assert (places.config / "users_roles").read_text() == "superuser:elastic\ndatabase-operator:database-operator\n"
    assert verifies(users(places)["elastic"], "pässword")
    assert verifies(users(places)["database-operator"], "internal")


def test_secrets_are_for_the_node_alone_and_no_signing_key_is_there(places: Places) -> None:
    write_configuration(places)
    assert sorted(path.name for path in (places.config / "certs").iterdir()) == ["ca.crt", "node.crt", "node.key"]
    for path in (places.config / "users", places.config / "certs" / "node.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "pässword" not in "".join(path.read_text() for path in places.config.rglob("*") if path.is_file())


def test_a_second_start_ends_in_the_same_files_and_keeps_the_keystore(places: Places) -> None:
    write(places.home / "config" / "elasticsearch.keystore", "the image's")
    write_configuration(places)
    assert (places.config / "elasticsearch.keystore").read_text() == "the image's"
    (places.config / "elasticsearch.keystore").write_text("this pod's")
    write_configuration(places)
    assert (places.config / "elasticsearch.keystore").read_text() == "this pod's"
    assert not list(places.config.rglob("*.new"))
    assert (places.config / "roles.yml").read_text().count("database-operator:") == 1


@pytest.mark.parametrize(
    "missing", ["credentials/password", "internal/operator-password", "internal/node.key", "settings/elasticsearch.yml"]
)
def test_what_is_missing_is_named(places: Places, missing: str, tmp_path: Path) -> None:
    (tmp_path / missing).unlink()
    with pytest.raises(OSError, match=Path(missing).name):
        write_configuration(places)


def test_an_empty_password_opens_nothing(places: Places) -> None:
    (places.credentials / "password").write_text("\n")
    with pytest.raises(ValueError, match="is empty"):
        write_configuration(places)


def test_words_that_are_not_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "usage" in capsys.readouterr().err


RUN = """\
import sys
from pathlib import Path
from agent.elasticsearch import node
from agent.elasticsearch.files import Places
node.WATCH_SECONDS = 0.1
root = Path(sys.argv[1])
names = ("home", "config", "settings", "credentials", "internal")
sys.exit(node.run(Places(**{name: root / name for name in names})))
"""
NODE = """\
#!{python}
import os, signal, sys, time
from pathlib import Path
def stop(number, frame):
    Path("{root}/stopped").write_text(str(number))
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
if os.fork() == 0:
    os._exit(0)
Path("{root}/started").write_text(os.environ["ES_PATH_CONF"])
while True:
    time.sleep(0.1)
"""


def start(places: Places, root: Path, program: str = NODE) -> "subprocess.Popen[str]":
    binary = places.home / "bin" / "elasticsearch"
    write(binary, textwrap.dedent(program).format(python=sys.executable, root=root))
    binary.chmod(0o755)
    return subprocess.Popen([sys.executable, "-c", RUN, str(root)], stderr=subprocess.PIPE, text=True, env=os.environ)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_is_handed_on_and_the_status_is_the_nodes(places: Places, tmp_path: Path) -> None:
    process = start(places, tmp_path)
    wait_for((tmp_path / "started").exists)
    assert (tmp_path / "started").read_text() == str(places.config)
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert (tmp_path / "stopped").read_text() == str(int(signal.SIGTERM))
    assert process.returncode == 143
    assert "ended with status 143" in errors


def test_a_changed_password_reaches_the_running_node(places: Places, tmp_path: Path) -> None:
    process = start(places, tmp_path)
    wait_for((tmp_path / "started").exists)
    (places.credentials / "password").write_text("another")
    wait_for(lambda: verifies(users(places)["elastic"], "another"))
    (places.credentials / "password").unlink()  # the kubelet swaps folders
    time.sleep(0.3)
    assert verifies(users(places)["elastic"], "another")
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert "another" not in errors


@pytest.mark.parametrize(("program", "status"), [("#!/bin/sh\nexit 78\n", 78), ("#!/bin/sh\nkill -9 $$\n", 137)])
def test_the_nodes_end_is_the_agents(places: Places, tmp_path: Path, program: str, status: int) -> None:
    process = start(places, tmp_path, program)
    process.communicate(timeout=20)
    assert process.returncode == status


def test_a_missing_secret_ends_with_one_line(places: Places, tmp_path: Path) -> None:
    (places.internal / "node.key").unlink()
    process = start(places, tmp_path)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
    assert "node.key" in errors
    assert not (tmp_path / "started").exists()


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    files.write(tmp_path / "users", b"old")
    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        files.write(tmp_path / "users", b"new")
    assert (tmp_path / "users").read_bytes() == b"old"
