"""Every name of a child comes from here."""

import hashlib

STATEFUL_SET_LIMIT = 52  # its pods carry a controller-revision-hash label of <name>-<10 characters>
SERVICE_LIMIT = 63  # Services, Jobs and pods: a DNS label
OBJECT_LIMIT = 253


def child(name: str, suffix: str, limit: int = OBJECT_LIMIT) -> str:
    """``<name><suffix>``, or, where that is longer than ``limit``, cut, with 8 digits of the name's SHA-256 before the suffix.

    Pure; two Databases never get the same name by cutting.
    """
    whole = f"{name}{suffix}"
    if len(whole) <= limit:
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - len(suffix) - 9]}-{digest}{suffix}"


def workload(name: str) -> str:
    return child(name, "", STATEFUL_SET_LIMIT)


def service(name: str) -> str:
    return child(name, "-service", SERVICE_LIMIT)


def read_only_service(name: str) -> str:
    return child(name, "-ro", SERVICE_LIMIT)


def members_service(name: str) -> str:
    return child(name, "-members", SERVICE_LIMIT)


def sentinel(name: str) -> str:
    return child(name, "-sentinel", STATEFUL_SET_LIMIT)


def settings(name: str) -> str:
    return child(name, "-settings")


def credentials(name: str) -> str:
    return child(name, "-credentials")


def internal(name: str) -> str:
    return child(name, "-internal")


def agent(name: str) -> str:
    return child(name, "-agent")


def disruption_budget(name: str) -> str:
    return child(name, "-pdb")


def tls(name: str) -> str:
    return child(name, "-tls")


def single_claim(name: str) -> str:
    """SQLite's claim; a StatefulSet names its own ``data-<name>-<i>``."""
    return child(name, "-data")


def patroni(name: str) -> tuple[str, ...]:
    """The ConfigMaps in which Patroni keeps what it knows; it makes them itself and asks nobody whose they are."""
    return tuple(f"{scope(name)}-{suffix}" for suffix in ("config", "failover", "leader", "sync"))


def scope(name: str) -> str:
    """The generation of data a pod belongs to; later ones are ``<name>-r<n>``."""
    return name
