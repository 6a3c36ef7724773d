"""Which images the local cluster needs and how each is built where no registry is reached. Another image: a folder and a line here."""

import hashlib
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
BASE_FORMAT = "2"  # counted up when base.py makes another base


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A folder beside this file with a Containerfile, built on Debian's ``suite``.

    ``arguments`` are its ARGs; ``extra`` are files and folders of the project that its build context has under the names given;
    ``artifact`` is a Maven artifact ``group:name:version:type``, in the context as ``artifact.<type>``; an image ``on_request`` is
    made by name alone, not with all others.
    """

    folder: str
    suite: str
    arguments: dict[str, str] = {}
    extra: dict[str, str] = {}
    artifact: str | None = None
    on_request: bool = False

    def context(self) -> dict[str, Path]:
        """Name in the build context -> file or folder it comes from."""
        own = {path.name: path for path in (HERE / self.folder).iterdir()}
        return own | {name: PROJECT / path for name, path in self.extra.items()}

    def digest(self) -> str:
        """12 hex digits of all that decides what is built, the packages' own versions apart."""
        words = [
            BASE_FORMAT,
            self.folder,
            self.suite,
            self.artifact or "",
            *(f"{key}={value}" for key, value in sorted(self.arguments.items())),
        ]
        return digest(words, self.context())


def digest(words: list[str], files: dict[str, Path]) -> str:
    """12 hex digits of the words and of the files' names, contents and executable bits; folders are walked."""
    total = hashlib.sha256("\0".join(words).encode())
    for name, path in sorted(files.items()):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                inner = file.relative_to(path).as_posix() if path.is_dir() else ""
                total.update(f"\0{name}\0{inner}\0{file.stat().st_mode & 0o100}\0".encode())
                total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:12]


CATALOG: dict[str, Recipe] = {
    "docker.io/library/postgres:17": Recipe(folder="postgres", suite="trixie", arguments={"MAJOR": "17"}),
    "docker.io/library/mongo:7.0": Recipe(
        folder="mongo",
        suite="bookworm",
        extra={"standin_mongo": "localcluster/standin_mongo", "requirements.txt": "requirements/standin.txt"},
    ),
    "docker.io/library/postgres:15": Recipe(folder="postgres", suite="bookworm", arguments={"MAJOR": "15"}, on_request=True),
    "docker.io/library/redis:7.2": Recipe(folder="redis", suite="bookworm"),
    "docker.elastic.co/elasticsearch/elasticsearch:8.11.0": Recipe(
        folder="elasticsearch",
        suite="trixie",
        arguments={"JAVA": "21"},
        artifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:8.11.0:zip",
    ),
    "docker.io/nouchka/sqlite3:latest": Recipe(folder="sqlite", suite="trixie"),
}
