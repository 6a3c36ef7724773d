"""PostgreSQL's agent without a server: what it reads, writes, marks, watches, and what it never says."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import json, structs

from agent.postgresql import layout, logins, settings
from agent.postgresql.layout import Layout, Server, Unusable, Wanted
from database_operator.engines.postgresql import config
from tests.engines.test_postgresql import database

POD = {"POD_NAME": "orders-0", "POD_IP": "10.0.0.7", "PATH": ""}


def image(folder: Path, version: str) -> str:
    """Programs that say which PostgreSQL they are, and the PATH to them."""
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres", "pg_ctl"):
        (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version} (Debian {version}-1)'\n")
        (folder / name).chmod(0o755)
    return str(folder)


# --- image, version and volume belong together


@pytest.mark.parametrize(("answer", "major"), [("17.2", "17"), ("18beta1", "18"), ("14.13", "14")])
def test_the_data_lies_under_the_major_of_the_image(tmp_path: Path, answer: str, major: str) -> None:
    path = image(tmp_path / "bin", answer)
    specification = Wanted(database="d", username="u", mount=str(tmp_path / "volume"), major=None)
    server = layout.server(specification, {"PATH": f"/nowhere:{path}"})
    assert (server.major, server.data) == (major, tmp_path / "volume" / major / "docker")


def test_an_image_of_another_major_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path / "bin", "16.4")
    with pytest.raises(Unusable, match=r"the image holds PostgreSQL 16, spec\.version says 17"):
        layout.server(Wanted(database="d", username="u", mount=str(tmp_path), major="17"), {"PATH": path})


def test_data_of_another_major_is_never_left_for_an_empty_database(tmp_path: Path) -> None:
    path = image(tmp_path / "bin", "17.2")
    (tmp_path / "16" / "docker").mkdir(parents=True)
    (tmp_path / "16" / "docker" / "PG_VERSION").write_text("16\n")
    with pytest.raises(Unusable, match="holds data of PostgreSQL 16"):
        layout.server(Wanted(database="d", username="u", mount=str(tmp_path)), {"PATH": path})


@pytest.mark.parametrize("what", ["first start", "clone"])
def test_half_made_data_is_removed_and_only_that(pg_server: Server, what: str) -> None:
    pg_server.data.mkdir(parents=True)
    (pg_server.data / "PG_VERSION").write_text("17\n")
    assert layout.clear_unfinished(pg_server) is None
    assert pg_server.data.exists()
    layout.mark_unfinished(pg_server, what)
    for _ in range(2):  # a kill in between repeats it
        assert layout.clear_unfinished(pg_server) == what
        assert not pg_server.data.exists()
    layout.mark_finished(pg_server)
    layout.mark_finished(pg_server)
    assert layout.clear_unfinished(pg_server) is None


def test_two_pods_never_use_one_volume(pg_server: Server) -> None:
    first = layout.hold_volume(pg_server)
    with pytest.raises(Unusable, match="still uses the volume"):
        layout.hold_volume(pg_server, seconds=0.1)
    os.close(first)
    os.close(layout.hold_volume(pg_server, seconds=0.1))


# --- configuration


def test_the_pods_own_part_is_added(mounts: Layout, pg_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "knows_superuser", lambda: True)
    content = settings.configuration(mounts, pg_server, POD)
    section = content["postgresql"]
    assert content["name"] == "orders-0"
    assert section["connect_address"] == "10.0.0.7:5432"
    assert content["restapi"]["connect_address"] == "10.0.0.7:8008"
    assert content["restapi"]["authentication"] == {"username": "operator", "password": "pw-rest"}
    assert section["authentication"]["superuser"] == {"username": "postgres", "password": "pw-superuser"}
    assert section["authentication"]["replication"] == section["authentication"]["rewind"]
    assert section["pg_hba"][0] == "local all postgres peer"
    assert content["bootstrap"]["dcs"] == config.dynamic(database({"database": "shop", "username": "app"}), 1)


def test_an_address_of_the_sixth_version_is_bracketed(mounts: Layout, pg_server: Server) -> None:
    content = settings.configuration(mounts, pg_server, POD | {"POD_IP": "fd00::7"})
    assert content["postgresql"]["connect_address"] == "[fd00::7]:5432"


def test_a_user_without_a_name_logs_in_by_password(mounts: Layout, pg_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "knows_superuser", lambda: False)
    content = settings.configuration(mounts, pg_server, POD)
    assert content["postgresql"]["pg_hba"][0] == "local all postgres scram-sha-256"
    assert {"auth-local": "scram-sha-256"} in content["bootstrap"]["initdb"]
    assert "peer" not in str(content)


def test_the_superuser_of_the_official_image_has_the_users_password(mounts: Layout) -> None:
    (mounts.settings / "database.json").write_text(config.settings(database(), True)["database.json"])
    known = settings.logins(mounts)
    assert (known.username, known.superuser, known.password) == ("postgres", "pw-user", "pw-user")


def test_the_file_with_passwords_is_for_this_user_alone(mounts: Layout, pg_server: Server) -> None:
    old = os.umask(0)
    try:
        settings.write(mounts.configuration, settings.configuration(mounts, pg_server, POD))
    finally:
        os.umask(old)
    assert mounts.configuration.stat().st_mode & 0o777 == 0o600
    assert json.decode(mounts.configuration.read_bytes())["scope"] == "orders"


def test_b10_logins_do_not_show_themselves(mounts: Layout) -> None:
    known = settings.logins(mounts)
    assert "pw-" not in f"{known!r} {known}"


# --- passwords

VERIFIER = (  # made by a PostgreSQL 15 for the password "secret-app"
    "SCRAM-SHA-256$4096:BsRrp2AiGZnrF0yyrRJbqQ==$UNmAuqnGUKK9NPGLtqCkquFUAsyx3+2pQdgoXT34MAk=:ZNF8JxtTyBaW+Yfs5MuCFen2TPnlrsFgRYYUWYnpoa0="
)


@pytest.mark.parametrize(
    ("verifier", "password", "same"),
    [
        (VERIFIER, "secret-app", True),
        (VERIFIER, "secret-app ", False),
        (VERIFIER, "", False),
        (None, "secret-app", False),
        ("md5d41d8cd98f00b204e9800998ecf8427e", "secret-app", False),
        (VERIFIER, "ﬁ", False),
    ],
)
def test_a_password_that_is_set_already_is_not_set_again(verifier: str | None, password: str, same: bool) -> None:
    assert logins.is_password(verifier, password) is same


class Sql:
    """Takes statements and answers that every role has ``verifier``."""

    def __init__(self, verifier: str | None) -> None:
        self.verifier, self.statements = verifier, []  # type: tuple[str | None, list[str]]
        self.pgconn = SimpleNamespace(encrypt_password=lambda password, user, algorithm: VERIFIER.encode())

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        text = statement if isinstance(statement, str) else statement.as_string(None)
        if text.startswith("SELECT"):
            return SimpleNamespace(fetchone=lambda: (self.verifier,) if self.verifier else None)
        self.statements.append(text)
        return None


def test_i12_names_are_quoted_and_passwords_never_sent(mounts: Layout) -> None:
    known = structs.replace(settings.logins(mounts), username='a"; DROP ROLE postgres; --', database="sh'op")
    sql = Sql(None)
    logins.first_start(sql, known)  # type: ignore[arg-type]
    text = "\n".join(sql.statements)
    assert 'CREATE ROLE "a""; DROP ROLE postgres; --" LOGIN' in text
    assert 'CREATE DATABASE "sh\'op" OWNER "a""; DROP ROLE postgres; --"' in text
    assert "SUPERUSER" not in text
    assert "pw-" not in text


def test_at_rest_nothing_is_written(mounts: Layout) -> None:
    known = structs.replace(settings.logins(mounts), **dict.fromkeys(("password", "superuser", "replication", "monitor"), "secret-app"))
    sql = Sql(VERIFIER)
    assert logins.ensure_roles(sql, known) == []  # type: ignore[arg-type]
    assert sql.statements == []
