"""What of this machine's apt and pip settings a build is lent, and what is not."""

import re
import stat
from pathlib import Path

import pytest

from localcluster.images import clients


def test_apt_keeps_the_way_to_the_archive_alone() -> None:
    dump = [
        'APT::Architecture "amd64";',
        'Acquire::http::Proxy "http://127.0.0.1:3128";',
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/of-this-machine";',
        'Acquire::https::CAInfo "/etc/of-this-machine.pem";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::IndexTargets::deb::DEP-11 "";',
        'DPkg::Post-Invoke:: "rm -f /var/cache/apt/*.bin";',
    ]
    assert clients.apt_settings(dump) == ['Acquire::http::Proxy "http://127.0.0.1:3128";', 'Acquire::Check-Valid-Until "false";']


def test_pip_keeps_the_index_and_the_environment_wins() -> None:
    listing = [
        ":env:.index-url='http://127.0.0.1:1/simple'",
        ":env:.cert='/etc/of-this-machine.pem'",
        ":env:.find-links='/of/this/machine'",
        "global.index-url='http://127.0.0.1:2/simple'",
        "global.default-timeout='180'",
        "install.user='true'",
    ]
    assert clients.pip_settings(listing) == ["[global]", "index-url = http://127.0.0.1:1/simple", "timeout = 180"]


@pytest.mark.parametrize(
    ("targets", "sources"),
    [
        ([], []),
        (["Ubuntu|Ubuntu|http://a.test/ubuntu/"], []),
        (["Debian|Debian-Security|http://a.test/security/"], []),
        (
            ["Other|Other|http://c.test/", "Debian|Debian|http://a.test/debian/", "Debian|Debian-Security|http://b.test/security/"],
            [
                "deb http://a.test/debian/ trixie main",
                "deb http://a.test/debian/ trixie-updates main",
                "deb http://b.test/security/ trixie-security main",
            ],
        ),
    ],
)
def test_mirrors_of_a_debian_machine(targets: list[str], sources: list[str]) -> None:
    assert clients.mirrors(targets, "trixie") == sources


def test_lent_folder_is_private_and_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"apt-config": ['Acquire::http::Proxy "http://127.0.0.1:3128";'], "pip": ["global.index-url='http://127.0.0.1:2/simple'"]}
    monkeypatch.setattr(clients, "_output", lambda argv: answers["pip" if "pip" in argv else argv[0]])
    (tmp_path / "trixie.list").write_text("deb http://127.0.0.1/debian trixie main\n")
    with clients.lent(tmp_path / "trixie.list", tmp_path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        apt, pip = (folder / "apt.conf").read_text(), (folder / "pip.conf").read_text()
        assert 'Proxy "http://127.0.0.1:3128"' in apt
        assert "index-url = http://127.0.0.1:2/simple" in pip
        named = re.findall(r"/mnt/([\w.]+)", apt + pip + " ".join(clients.ARGUMENTS.values()))
        assert all((folder / name).is_file() for name in named)
        assert (folder / "sources.list").read_text().startswith("deb ")
    assert not folder.exists()
