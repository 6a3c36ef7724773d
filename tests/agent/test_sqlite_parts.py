"""The parts of SQLite's server that need no process: settings, access, where files may lie."""

import base64
from pathlib import Path

import pytest

from agent.sqlite.access import Access
from agent.sqlite.settings import below, decode
from agent.sqlite.store import is_network_file_system


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"databaseFile":1,"pragmas":{}}',
        b'{"databaseFile":"x","pragmas":{"key":"1"}}',
        b'{"databaseFile":"x","pragmas":{"synchronous":"full"}}',
    ],
)
def test_settings_that_are_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"settings|pragma"):
        decode(text)


def test_a_link_does_not_lead_out_of_the_volume(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "out").symlink_to("/etc")
    assert below(tmp_path / "data", f"{tmp_path}/data/a/b.db").name == "b.db"
    for file in (f"{tmp_path}/data/out/x.db", "/etc/x.db", f"{tmp_path}/data/../x.db", f"{tmp_path}/database.db"):
        with pytest.raises(ValueError, match="is not below"):
            below(tmp_path / "data", file)


def test_sessions_end() -> None:
    now = 1000.0
    access = Access(lambda: b"token", clock=lambda: now)
    session = access.session()
    assert access.is_session(session)
    now += 12 * 3600 + 1
    assert not access.is_session(session)
    for forged in ("", ".", "99999999999.x", f"9{session}", "٣.x", f"99999999999.{session.partition('.')[2]}"):
        assert not access.is_session(forged)
    assert not Access(lambda: b"").is_token(b"")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_token_beyond_ascii_is_known_in_both_encodings(encoding: str) -> None:
    access = Access(lambda: "schlüssel".encode())
    assert access.allows({b"authorization": b"Bearer " + "schlüssel".encode(encoding)}, {})
    assert access.allows({b"authorization": b"Basic " + base64.b64encode("token:schlüssel".encode(encoding))}, {})
    assert not access.allows({b"authorization": b"Bearer schl"}, {})


@pytest.mark.parametrize(
    ("mounts", "is_network"),
    [
        ("/dev/sda / ext4 rw 0 0\nhost:/x /data nfs4 rw 0 0", True),
        ("host:/x / nfs4 rw 0 0\n/dev/sdb /data ext4 rw 0 0", False),
        ("host:/x /dat nfs4 rw 0 0\n/dev/sda / ext4 rw 0 0", False),
        ("", False),
    ],
)
def test_q02_network_file_systems_are_known(mounts: str, is_network: bool) -> None:
    assert is_network_file_system(Path("/data/team"), mounts) is is_network
