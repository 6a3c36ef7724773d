"""The node's configuration folder: the image's own files, and over them what the operator and the Secrets say."""

import base64
import hashlib
import os
from pathlib import Path

from msgspec import Struct

from database_operator.build import constants as c

OPERATOR = "database-operator"  # the operator's own user and the role that is enough for it
USER = "elastic"
PBKDF2_COST = 10_000  # one that Elasticsearch knows: Hasher.java, "pbkdf2"
SALT_BYTES, HASH_BYTES = 32, 32
CERTIFICATES = ("ca.crt", "node.crt", "node.key")  # not ca.key: a node signs nothing

ROLE = f"""
{OPERATOR}:
  cluster: ["monitor", "manage"]
  indices:
    - names: ["*"]
      privileges: ["monitor", "view_index_metadata"]
      allow_restricted_indices: true
"""


class Places(Struct, frozen=True, kw_only=True):
    """Where things lie in the pod; tests put them elsewhere."""

    home: Path = Path("/usr/share/elasticsearch")
    config: Path = Path("/etc/elasticsearch")
    settings: Path = Path(c.SETTINGS_PATH)
    credentials: Path = Path(c.CREDENTIALS_PATH)
    internal: Path = Path(c.INTERNAL_PATH)


def password_hash(password: str, salt: bytes) -> str:
    """In the form of Elasticsearch's file realm (PBKDF2 with HMAC-SHA512, Hasher.java)."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PBKDF2_COST, HASH_BYTES)
    return f"{{PBKDF2}}{PBKDF2_COST}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def write(path: Path, content: bytes, mode: int = 0o640) -> None:
    """Whole or not at all: Elasticsearch reads some of these files whenever they change."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)


def passwords(places: Places) -> tuple[str, str]:
    """The user's and the operator's. ``OSError`` where a Secret is not mounted, ``ValueError`` where it is empty."""
    found = []
    for path in (places.credentials / "password", places.internal / "operator-password"):
        value = path.read_text().strip("\n")
        if not value:
            raise ValueError(f"{path} is empty")
        found.append(value)
    return found[0], found[1]


def write_users(places: Places, of_user: str, of_operator: str) -> None:
    """The file realm, which running nodes read again within seconds."""
    users = ((USER, of_user), (OPERATOR, of_operator))
    lines = [f"{name}:{password_hash(password, os.urandom(SALT_BYTES))}\n" for name, password in users]
    write(places.config / "users", "".join(lines).encode(), 0o600)


def _copy_defaults(source: Path, target: Path) -> None:
    """The image's own files, a custom image's among them; a keystore that this pod has already stays.

    Modes and times are not copied: the target is the kubelet's folder, and its mode cannot be set.
    """
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(exist_ok=True)
        for name in names:
            if name != "elasticsearch.keystore" or not (here / name).exists():
                write(here / name, (Path(folder) / name).read_bytes())


def write_configuration(places: Places) -> None:
    """All that a node starts from, made anew at every start. ``OSError`` or ``ValueError`` where something is missing."""
    _copy_defaults(places.home / "config", places.config)
    for folder in ("certs", "jvm.options.d"):
        (places.config / folder).mkdir(exist_ok=True)
    write(places.config / "elasticsearch.yml", (places.settings / "elasticsearch.yml").read_bytes())
    write(places.config / "jvm.options.d" / "database-operator.options", (places.settings / "database-operator.options").read_bytes())
    for name in CERTIFICATES:
        write(places.config / "certs" / name, (places.internal / name).read_bytes(), 0o600)
    roles = (places.home / "config" / "roles.yml").read_text() if (places.home / "config" / "roles.yml").exists() else ""
    write(places.config / "roles.yml", f"{roles.rstrip()}\n{ROLE}".encode())
    write(places.config / "users_roles", f"superuser:{USER}\n{OPERATOR}:{OPERATOR}\n".encode())
    write_users(places, *passwords(places))
