"""What became of the writes of one run: what is lost, who took writes, how long nobody did. Pure."""

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import pairwise

from msgspec import Struct


class Outcome(Enum):
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"  # the server said that it was not done
    UNKNOWN = "unknown"  # sent, and no answer that tells


class Write(Struct, frozen=True, kw_only=True):
    """One attempt; times in seconds of one monotonic clock. ``term``: which member took it, since which election."""

    key: str
    began: float
    ended: float
    outcome: Outcome
    term: str = ""
    group: str = ""  # shard: each has a primary of its own
    route: str = "service"
    safe: bool = True  # a second member confirmed it before the client heard of it


class Overlap(Struct, frozen=True):
    """``old`` began and was granted a write after ``new`` had granted one: for ``seconds`` two members took writes."""

    old: str
    new: str
    seconds: float


class Verdict(Struct, frozen=True, kw_only=True):
    acknowledged: int
    safe: int  # of the acknowledged
    failed: int
    unknown: int
    unknown_kept: int  # of the unknown
    lost: Sequence[str]  # keys that were acknowledged and are not there
    lost_safe: Sequence[str]  # of the lost
    overlaps: Sequence[Overlap]  # among writes that a second member confirmed
    weak_overlaps: Sequence[Overlap]  # among all


def acknowledged(writes: Iterable[Write]) -> list[Write]:
    """In the order in which the clients heard of them."""
    return sorted((write for write in writes if write.outcome is Outcome.ACKNOWLEDGED), key=lambda write: write.ended)


def gap(writes: Iterable[Write], since: float, until: float) -> float:
    """Seconds: the longest time without an acknowledged write that reaches into ``since`` to ``until``, of the group that waited longest.

    Only groups that wrote before count; one that never writes again waits until the end.
    """
    groups: dict[str, list[float]] = {}
    for write in acknowledged(writes):
        groups.setdefault(write.group, []).append(write.ended)
    longest = 0.0
    for times in groups.values():
        for left, right in pairwise([*(time for time in times if time < until), until]):
            if right >= since:
                longest = max(longest, right - left)
    return longest if groups else until - since


def overlaps(writes: Iterable[Write]) -> list[Overlap]:
    """Terms of one group that took writes at the same time.

    A write takes effect between its begin and its end. Terms follow one another, so one that is granted a write which
    began after a later term had answered one was still taking writes.
    """
    groups: dict[str, dict[str, list[Write]]] = {}
    for write in acknowledged(writes):
        groups.setdefault(write.group, {}).setdefault(write.term, []).append(write)
    found = []
    for terms in groups.values():
        ordered = sorted(terms.items(), key=lambda item: item[1][0].ended)
        for place, (old, of_old) in enumerate(ordered):
            for new, of_new in ordered[place + 1 :]:
                late = [write.ended for write in of_old if write.began > of_new[0].ended]
                if late:
                    found.append(Overlap(old, new, max(late) - of_new[0].ended))
    return found


def judge(writes: Sequence[Write], present: set[str]) -> Verdict:
    """``present``: the keys that the database holds once all has settled."""
    granted = acknowledged(writes)
    missing = [write for write in granted if write.key not in present]
    unknown = [write for write in writes if write.outcome is Outcome.UNKNOWN]
    return Verdict(
        acknowledged=len(granted),
        safe=sum(write.safe for write in granted),
        failed=sum(write.outcome is Outcome.FAILED for write in writes),
        unknown=len(unknown),
        unknown_kept=sum(write.key in present for write in unknown),
        lost=[write.key for write in missing],
        lost_safe=[write.key for write in missing if write.safe],
        overlaps=overlaps(write for write in writes if write.safe),
        weak_overlaps=overlaps(writes),
    )


def role_change(writes: Iterable[Write], since: float) -> tuple[float, str] | None:
    """When a term that had granted nothing before ``since`` granted its first write, and the last such term; None: the terms stayed."""
    before: set[str] = set()
    found: tuple[float, str] | None = None
    for write in acknowledged(writes):
        if write.term not in before and write.began > since and before:
            found = (write.ended, write.term)
        before.add(write.term)
    return found
