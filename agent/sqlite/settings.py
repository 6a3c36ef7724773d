"""What the server runs with: its settings file, its token, where things lie."""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from database_operator.build import constants as c
from database_operator.build.manifest import digest
from database_operator.build.pragmas import PRAGMAS, canonical


class Settings(Struct, frozen=True, rename="camel"):
    """``pragmas`` are as SQLite reads them back. ``hash`` is what the operator compares."""

    database_file: str
    pragmas: dict[str, str]
    hash: str = ""


class Places(Struct, frozen=True, kw_only=True):
    """Where the pod mounts what the server needs; tests put it elsewhere."""

    settings: Path = Path(c.SETTINGS_PATH) / "sqlite.json"
    token: Path = Path(c.CREDENTIALS_PATH) / "password"
    data: Path = Path("/data")
    address: str = ""  # all
    port: int = 8080


def decode(text: str | bytes) -> Settings:
    """``ValueError`` where the text is not settings, or holds a pragma or value that no user may set."""
    try:
        found = msgspec.json.decode(text, type=Settings)
    except msgspec.DecodeError as error:  # ValidationError is one
        raise ValueError(f"settings cannot be read: {error}") from None
    for name, value in found.pragmas.items():
        if name not in PRAGMAS or canonical(name, value) != value:
            raise ValueError(f"pragma {name!r} cannot be set to {value!r}")
    plain = text if isinstance(text, str) else text.decode()
    return msgspec.structs.replace(found, hash=digest(plain))


class WatchedFile(Struct):
    """A file of a mounted ConfigMap or Secret: the kubelet swaps a link above it, so its inode tells of a change."""

    path: Path
    seen: tuple[int, int, int] | None = None
    content: bytes = b""

    def read(self) -> bytes:
        """The content now, from memory while the file is the same. ``OSError`` where it was never there."""
        try:
            stat = self.path.stat()
        except OSError:
            if self.seen is None:
                raise
            return self.content  # taken away, as while the kubelet swaps: what was known still holds
        mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if mark != self.seen:
            self.content = self.path.read_bytes()
            self.seen = mark
        return self.content


def below(folder: Path, file: str) -> Path:
    """``file`` as a path that is really inside ``folder``: a link in the volume must not lead out of it."""
    path = Path(file)
    real = os.path.realpath(path)
    if not real.startswith(f"{os.path.realpath(folder)}{os.sep}"):
        raise ValueError(f"{file} is not below {folder}")
    return path
