"""What every engine looks at before a request of the user's is carried out. Pure."""

from collections.abc import Callable, Sequence

from database_operator.engines.base import BEHIND_BYTES, Handled, Member, Observation, Refused, Verdict, Wait


def ordinal(member: Member) -> int:
    tail = member.pod.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else -1


def may_lead(observation: Observation, member: Member) -> Verdict | None:
    """What keeps ``member`` from becoming the primary, whatever the engine; None where nothing does."""
    primary = observation.primary
    if primary is None:
        return Wait("no primary is known")
    if member.pod == primary.pod:
        return Handled(f"{member.pod} is the primary")
    if not member.ready or member.terminating or not member.reached:
        return Refused(f"{member.pod} is not ready")
    if ordinal(member) >= observation.wanted:
        return Refused(f"{member.pod} is to leave: spec.replicas is {observation.wanted}")
    if member.lag_bytes is not None and member.lag_bytes > BEHIND_BYTES:
        return Refused(f"{member.pod} is {member.lag_bytes // 2**20} MiB behind {primary.pod}: ask again once it has caught up")
    return None


def may_be_wiped(observation: Observation, member: Member) -> Verdict | None:
    """What speaks against wiping ``member``: it may be the primary, or one of the others may not be well. None where nothing does."""
    others = [other for other in observation.members if other.pod != member.pod]
    if not others:
        return Refused(f"{member.pod} is the only member, and so the last copy of the data")
    if member.terminating:
        return Wait(f"{member.pod} is being replaced")
    primary = observation.primary
    if primary is not None and primary.pod == member.pod:
        return Refused(f"{member.pod} is the primary: move the primary to another member first")
    if primary is None:
        return Wait("no primary is known")
    return others_are_well(others, observation.wanted)


def _reached(member: Member) -> bool:
    return bool(member.reached)


def others_are_well(others: Sequence[Member], wanted: int, answers: Callable[[Member], bool] = _reached) -> Wait | None:
    """What is to be waited for before a copy of the data goes: a member that is away, or is not well. None where nothing is."""
    away = [other.pod for other in others if not other.ready or other.terminating or not answers(other)]
    if away:
        return Wait(f"a member is cloned only while all others are well, and {', '.join(away)} is not")
    if len(others) + 1 < wanted:
        return Wait(f"a member is cloned only while all others are well, and only {len(others) + 1} of {wanted} are there")
    return None
