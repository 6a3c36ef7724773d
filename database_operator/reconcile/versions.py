"""Which wanted versions have to wait. Pure."""

import re
from collections.abc import Sequence

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.engines.base import Engine, Observation
from database_operator.reconcile.views import ClaimView

NUMBERS = re.compile(r"^v?(\d+(?:\.\d+)*)")


def numbers(version: str | None) -> tuple[int, ...] | None:
    """The leading numbers of a version or tag; None for a tag that is no version (``latest``), which is never compared."""
    found = NUMBERS.match(version or "")
    return tuple(int(part) for part in found[1].split(".")) if found else None


def older(wanted: str, running: str) -> bool:
    """As far as both say: ``16`` is not older than ``16.4``."""
    left, right = numbers(wanted), numbers(running)
    if left is None or right is None:
        return False
    length = min(len(left), len(right))
    return left[:length] < right[:length]


def held(database: Resolved, engine: Engine, claims: Sequence[ClaimView], seen: Observation) -> str | None:
    """Why the wanted version is not rolled out, None where it may be. The pods stay as they are; reverting heals.

    Rests on what the data's claims and the servers say, never on the status.
    """
    if not engine.tag_is_version:  # the data does not hang on it
        return None
    wanted = engine.major(database.spec.version)
    for claim in claims if wanted is not None else ():
        kept = claim.metadata.annotations.get(c.MAJOR)
        if kept and c.FORMED in claim.metadata.annotations and kept != wanted:
            return f"{engine.title} {kept} to {wanted} is a step that is not supported yet: set spec.version back to {kept}"
    running = [member.version for member in seen.members if member.version]
    for version in running if wanted is not None else ():  # data that no claim is marked for yet
        if engine.major(version) not in (None, wanted):
            return f"{engine.title} {version} to {wanted} is a step that is not supported yet: set spec.version back"
    newest = max(running, key=lambda version: numbers(version) or (), default=None)
    if newest and older(database.spec.version, newest):
        return f"{engine.title} {newest} runs and {database.spec.version} is older: a downgrade is not supported, set spec.version back"
    return None
