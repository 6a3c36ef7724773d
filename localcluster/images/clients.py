"""This machine's own apt and pip settings, lent to a build: nothing of them, no host name, stays in the image.

They lie in a folder that is mounted read-only at ``/mnt`` while a build step runs; ``APT_CONFIG`` and ``PIP_CONFIG_FILE`` point there.
"""

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOUNT = "/mnt"  # a folder every Debian image has, so that the mount leaves no trace
ARGUMENTS = {"APT_CONFIG": f"{MOUNT}/apt.conf", "PIP_CONFIG_FILE": f"{MOUNT}/pip.conf"}
# what of the host's apt settings is about the way to the archive; scripts and the host's own folders are not
_APT_KEPT = ("Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv")
_APT_DROPPED = ("Proxy-Auto-Detect", "ProxyAutoDetect", "CAInfo", "SslCert", "SslKey")
_PIP_KEPT = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")


def _output(argv: list[str]) -> list[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30, stdin=subprocess.DEVNULL).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def apt_settings(dump: list[str]) -> list[str]:
    """The lines of ``apt-config dump`` that say how the archive is reached."""
    return [line for line in dump if line.startswith(_APT_KEPT) and not any(word in line for word in _APT_DROPPED)]


def pip_settings(listing: list[str]) -> list[str]:
    """``pip config list`` as the lines of a settings file; what the environment says wins over files, as it does for pip."""
    values: dict[str, str] = {}
    for line in sorted(listing, key=lambda text: text.startswith(":env:")):
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_KEPT:
            values[key.removeprefix("default-")] = value.strip("'\"").replace("\\n", "\n    ")
    return ["[global]", *(f"{key} = {value}" for key, value in sorted(values.items()))]


def mirrors(targets: list[str], suite: str) -> list[str]:
    """Sources for ``suite`` from the Debian archives this machine uses; none where it is another distribution or none are known.

    ``targets`` are lines ``origin|label|address`` of ``apt-get indextargets``.
    """
    found: dict[str, str] = {}
    for line in targets:
        origin, label, address = line.split("|", 2)
        if origin == "Debian":
            found.setdefault(label, address)
    if "Debian" not in found:
        return []
    sources = [f"deb {found['Debian']} {name} main" for name in (suite, f"{suite}-updates")]
    if "Debian-Security" in found:
        sources.append(f"deb {found['Debian-Security']} {suite}-security main")
    return sources


def host_sources(suite: str) -> list[str]:
    return mirrors(_output(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"]), suite)


def certificates() -> Path | None:
    """This machine's certificate authorities, in one file."""
    candidates = [os.environ.get(name) for name in ("PIP_CERT", "SSL_CERT_FILE")] + [ssl.get_default_verify_paths().cafile]
    candidates += ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def apt_lines() -> list[str]:
    return [
        *apt_settings(_output(["apt-config", "dump"])),
        'Dir::Cache::pkgcache "";',
        'Dir::Cache::srcpkgcache "";',
        'Acquire::Languages "none";',
    ]


@contextmanager
def lent(sources: Path, parent: Path) -> Iterator[Path]:
    """The folder, in ``parent``, to mount while a build runs: apt with the lines of ``sources``, pip as this machine's; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="clients-", dir=parent))
    try:
        apt = [
            *apt_lines(),
            f'Dir::Etc::sourcelist "{MOUNT}/sources.list";',
            'Dir::Etc::sourceparts "/dev/null";',
            'APT::Sandbox::User "root";',
        ]
        pip = pip_settings(_output([sys.executable, "-m", "pip", "config", "list"]))
        authorities = certificates()
        if authorities:
            shutil.copyfile(authorities, folder / "ca.pem")
            apt.append(f'Acquire::https::CAInfo "{MOUNT}/ca.pem";')
            pip.append(f"cert = {MOUNT}/ca.pem")
        logins = [path for path in (Path("/etc/apt/auth.conf"), *Path("/etc/apt/auth.conf.d").glob("*.conf")) if path.is_file()]
        if logins:
            (folder / "auth.conf").write_text("\n".join(path.read_text() for path in logins))
            apt.append(f'Dir::Etc::netrc "{MOUNT}/auth.conf";')
        shutil.copyfile(sources, folder / "sources.list")
        (folder / "apt.conf").write_text("\n".join(apt) + "\n")
        (folder / "pip.conf").write_text("\n".join(pip) + "\n")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
