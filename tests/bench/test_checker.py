"""The checker of the fault bench finds what it looks for."""

import pytest

from bench.faults.checker import Outcome, Overlap, Write, gap, judge, overlaps, role_change


def write(
    ended: float, key: str = "", term: str = "a/1", outcome: Outcome = Outcome.ACKNOWLEDGED, group: str = "", **more: object
) -> Write:
    fields = {"key": key or f"{term}-{ended}", "began": ended - 0.01, "ended": ended, "outcome": outcome, "term": term, "group": group}
    return Write(**(fields | more))  # type: ignore[arg-type]


def test_an_acknowledged_key_that_is_not_there_is_lost() -> None:
    writes = [write(1.0, "one"), write(1.1, "two"), write(1.2, "three", safe=False)]
    verdict = judge(writes, {"one"})
    assert list(verdict.lost) == ["two", "three"]
    assert list(verdict.lost_safe) == ["two"]
    assert (verdict.acknowledged, verdict.safe) == (3, 2)
    assert not judge(writes, {"one", "two", "three"}).lost


def test_p17_unknown_and_failed_keys_are_never_lost() -> None:
    writes = [
        write(1.0, "kept", outcome=Outcome.UNKNOWN),
        write(1.1, "gone", outcome=Outcome.UNKNOWN),
        write(1.2, "refused", outcome=Outcome.FAILED),
    ]
    verdict = judge(writes, {"kept"})
    assert not verdict.lost
    assert (verdict.unknown, verdict.unknown_kept, verdict.failed, verdict.acknowledged) == (2, 1, 1, 0)


def test_two_members_that_take_writes_at_once_are_found() -> None:
    writes = [write(1.0), write(1.5), write(1.6, term="b/2"), write(1.7), write(2.1), write(2.2, term="b/2")]
    found = overlaps(writes)
    assert [(overlap.old, overlap.new) for overlap in found] == [("a/1", "b/2")]
    assert found[0].seconds == pytest.approx(0.5)
    assert judge(writes, set()).overlaps == found
    weak = [*writes[:3], write(1.7, safe=False), write(2.2, term="b/2")]
    assert (len(judge(weak, set()).overlaps), len(judge(weak, set()).weak_overlaps)) == (0, 1)


@pytest.mark.parametrize(
    "writes",
    [
        pytest.param([write(1.0), write(1.5, term="b/2"), write(1.6, term="b/2")], id="a move"),
        pytest.param([write(1.0), write(1.5, term="b/2"), write(2.0, term="a/3")], id="there and back"),
        pytest.param([write(1.0), write(1.5, term="b/2"), write(1.6, began=1.4)], id="an answer on its way while the other began"),
        pytest.param([write(1.0), write(1.5, term="b/2"), write(1.7, outcome=Outcome.FAILED)], id="the old one refuses"),
        pytest.param([write(1.0), write(1.5, term="b/2"), write(1.7, outcome=Outcome.UNKNOWN)], id="the old one does not answer"),
        pytest.param([write(1.0, group="0"), write(1.5, term="b/2", group="1"), write(1.7, group="0")], id="shards have a primary each"),
    ],
)
def test_members_that_follow_one_another_are_no_overlap(writes: list[Write]) -> None:
    assert overlaps(writes) == []


def test_an_old_primary_that_wakes_is_found_after_many_writes_of_the_new_one() -> None:
    writes = [write(1.0), *(write(5 + n / 10, term="b/2") for n in range(100)), write(9.0)]
    assert overlaps(writes) == [Overlap("a/1", "b/2", 4.0)]


@pytest.mark.parametrize(
    ("times", "since", "until", "longest"),
    [
        pytest.param([1.0, 1.1, 4.1, 4.2], 1.05, 4.2, 3.0, id="around the fault"),
        pytest.param([1.0, 3.0, 3.1, 3.2], 3.05, 3.2, 0.1, id="what came before does not count"),
        pytest.param([1.0, 2.9, 3.0], 1.5, 3.0, 1.9, id="one that began before the fault does"),
        pytest.param([1.0, 1.1], 1.05, 9.1, 8.0, id="never back"),
        pytest.param([], 1.0, 3.0, 2.0, id="no write at all"),
    ],
)
def test_the_gap_is_the_longest_wait(times: list[float], since: float, until: float, longest: float) -> None:
    assert gap([write(time) for time in times], since, until) == pytest.approx(longest)


def test_unanswered_writes_do_not_end_a_gap_and_the_worst_shard_counts() -> None:
    assert gap([write(1.0), write(2.0, outcome=Outcome.UNKNOWN), write(4.0)], 1.0, 4.0) == pytest.approx(3.0)
    shards = [write(time / 10, group="0") for time in range(10, 50)] + [write(1.0, group="1"), write(4.0, group="1")]
    assert gap(shards, 1.0, 5.0) == pytest.approx(3.0)


def test_the_role_change_is_the_first_write_of_the_last_new_term() -> None:
    writes = [write(1.0), write(3.0, term="b/2"), write(3.1, term="b/2"), write(5.0, term="a/3")]
    assert role_change(writes, 2.0) == (5.0, "a/3")
    assert role_change(writes[:3], 2.0) == (3.0, "b/2")
    assert role_change(writes[:1], 2.0) is None
