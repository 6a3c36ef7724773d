"""Fixtures that several of the agent's tests share."""

from pathlib import Path

import pytest

from agent.postgresql.layout import Layout, Server
from database_operator.engines.postgresql import config
from tests.engines.test_postgresql import database


@pytest.fixture
def mounts(tmp_path: Path) -> Layout:
    """The mounts of a pod, as the operator's own plan fills them."""
    made = Layout(**{name: tmp_path / name for name in ("settings", "credentials", "internal", "run")})
    for folder in (made.settings, made.credentials, made.internal, made.run):
        folder.mkdir()
    for name, text in config.settings(database({"database": "shop", "username": "app"}), False).items():
        (made.settings / name).write_text(text)
    (made.credentials / "password").write_text("pw-user")
    for key in ("superuser", "replication", "monitor", "rest"):
        (made.internal / f"{key}-password").write_text(f"pw-{key}")
    return made


@pytest.fixture
def pg_server(tmp_path: Path) -> Server:
    return Server(programs=tmp_path / "bin", major="17", data=tmp_path / "volume" / "17" / "docker")
