"""The Redis agent as pure functions: what it starts as, what it writes, what it understands."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.redis import ask, decide, files, main
from agent.redis.ask import Peer, View
from agent.redis.decide import Evidence, Follow, Hold, Primary
from agent.redis.handover import caught_up
from agent.redis.place import Place
from database_operator.build.redisconf import AgentSettings

HOSTS = [f"cache-{ordinal}.cache-members.shop.svc.cluster.local" for ordinal in range(3)]
A, B, C = HOSTS


def of(ordinal: int = 0, **more: object) -> Evidence:
    base: dict[str, object] = {"host": HOSTS[ordinal], "first": A, "sentinel": True, "formed": True, "has_data": True, "replicas": 3}
    return Evidence(**(base | more))  # type: ignore[arg-type]


def master(host: str, keys: bool = True, replicas: int = 0) -> Peer:
    return Peer(host=host, role="master", keys=keys, replicas=replicas)


def slave(host: str, of: str, keys: bool = True) -> Peer:
    return Peer(host=host, role="slave", master_host=of, keys=keys)


CASES = [
    ("alone", of(sentinel=False, replicas=1), Primary()),
    ("alone, first start", of(sentinel=False, replicas=1, formed=False, has_data=False), Primary()),
    ("alone, volume lost", of(sentinel=False, replicas=1, has_data=False), Primary()),
    ("alone, while the primary has not left yet", of(sentinel=False, replicas=1, peers=[master(B)]), Follow(B)),
    ("beginning, first", of(0, formed=False, has_data=False), Primary()),
    ("beginning, second", of(1, formed=False, has_data=False), Follow(A)),
    ("beginning, second beside the running first", of(1, formed=False, has_data=False, peers=[master(A, keys=False)]), Follow(A)),
    ("a second member comes to one", of(1, has_data=False, peers=[master(A)]), Follow(A)),
    ("Sentinel's word over ordinal 0", of(0, views=[View(3, C)]), Follow(C)),
    ("Sentinel's word over a running primary", of(0, views=[View(3, C)], peers=[master(B)]), Follow(C)),
    ("the latest election of several", of(0, views=[View(3, B), View(4, C), View(3, B)]), Follow(C)),
    ("back before Sentinel missed it", of(0, views=[View(3, A)]), Primary()),
    ("back empty, the others hold data", of(0, has_data=False, views=[View(3, A)], peers=[slave(B, A), slave(C, A)]), Hold("")),
    ("back empty, nobody answers", of(0, has_data=False, views=[View(3, A)]), Hold("")),
    ("all are empty", of(0, has_data=False, views=[View(3, A)], peers=[slave(B, A, False), slave(C, A, False)]), Primary()),
    ("empty and formed, nothing runs", of(0, has_data=False), Hold("")),
    ("empty, not the first, nothing runs", of(2, has_data=False), Follow(A)),
    ("no Sentinel, one primary runs", of(0, peers=[master(B, replicas=1), slave(C, B)]), Follow(B)),
    ("no Sentinel, replicas name this one", of(0, peers=[slave(B, A), slave(C, A)]), Primary()),
    ("no Sentinel, replicas name another", of(0, peers=[slave(B, C)]), Follow(C)),
    ("empty, and replicas with data name it", of(0, has_data=False, peers=[slave(B, A), slave(C, A)]), Hold("")),
    ("all lost power, this was primary", of(1, remembers=""), Primary()),
    ("all lost power, this was a replica", of(0, remembers=B), Follow(B)),
    ("back slowly, and nobody answers in time", of(0, remembers="", silent=3), Hold("")),
    ("back slowly, one primary without replicas answers", of(0, remembers="", silent=1, peers=[master(B)]), Hold("")),
    ("back slowly, one primary with replicas answers", of(0, remembers="", silent=1, peers=[master(B, replicas=1)]), Follow(B)),
    ("back slowly, replicas answer", of(0, remembers="", silent=1, peers=[slave(C, A)]), Hold("")),
    ("beginning, and the Sentinels do not answer yet", of(0, formed=False, has_data=False, silent=3), Primary()),
    ("data of before, no memory, first", of(0), Primary()),
    ("data of before, no memory, second", of(1), Follow(A)),
    ("an empty primary that nobody follows is not followed", of(1, peers=[master(A, keys=False)], remembers=C), Follow(C)),
    ("two primaries, one has replicas", of(2, peers=[master(A), master(B, replicas=1)]), Follow(B)),
    ("two primaries and no Sentinel", of(2, peers=[master(A), master(B)], remembers=""), Hold("")),
]


@pytest.mark.parametrize(("evidence", "want"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_as_what_a_member_starts(evidence: Evidence, want: decide.Decision) -> None:
    found = decide.member(evidence)
    assert type(found) is type(want)
    if not isinstance(want, Hold):
        assert found == want


hosts = st.sampled_from(HOSTS)
peers = st.lists(
    st.builds(
        Peer,
        host=hosts,
        role=st.sampled_from(["master", "slave"]),
        master_host=st.one_of(st.just(""), hosts),
        keys=st.booleans(),
        replicas=st.integers(0, 2),
    ),
    max_size=2,
    unique_by=lambda peer: peer.host,
)


@given(
    ordinal=st.integers(0, 2),
    formed=st.booleans(),
    has_data=st.booleans(),
    remembers=st.one_of(st.none(), st.just(""), hosts),
    views=st.lists(st.builds(View, st.integers(0, 3), hosts), max_size=3),
    others=peers,
    silent=st.integers(0, 2),
)
def test_r02_an_empty_member_never_reigns_over_data(
    ordinal: int, formed: bool, has_data: bool, remembers: str | None, views: list[View], others: list[Peer], silent: int
) -> None:
    others = [peer for peer in others if peer.host != HOSTS[ordinal]]
    stands = of(ordinal, formed=formed, has_data=has_data, remembers=remembers, views=views, peers=others, silent=silent)
    found = decide.member(stands)
    if isinstance(found, Primary) and (formed or has_data):
        assert views or not silent
    if isinstance(found, Primary) and formed and not has_data:
        assert not any(peer.keys for peer in others)
        assert len(others) == 2
    if isinstance(found, Follow):
        assert found.host != HOSTS[ordinal]


@pytest.mark.parametrize(
    ("views", "others", "formed", "want"),
    [
        ([], [], False, None),
        ([], [master(A, keys=False)], False, A),
        ([], [master(A, keys=False)], True, None),
        ([], [master(A), slave(B, A)], True, A),
        ([], [slave(B, A), slave(C, A)], True, A),
        ([View(2, B)], [master(A)], True, B),
        ([], [master(A), master(B)], True, None),
    ],
)
def test_whom_a_new_sentinel_watches(views: list[View], others: list[Peer], formed: bool, want: str | None) -> None:
    assert decide.watched(views, others, 0, formed) == want


def test_r07_a_new_sentinel_waits_for_the_silent() -> None:
    assert decide.watched([], [master(A)], 1, True) is None
    assert decide.watched([], [slave(B, A)], 1, True) is None
    assert decide.watched([], [master(A, replicas=1)], 1, True) == A


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for folder in ("settings", "credentials", "internal", "run", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "settings/redis.conf").write_text("appendonly yes\ndir /data\nport 6379\n")
    (tmp_path / "credentials/password").write_text('p"w ü\\#~')
    for user in ("operator", "replica", "sentinel"):
        (tmp_path / f"internal/{user}-password").write_text(f"secret-{user}")
    settings = AgentSettings(
        mode="sentinel",
        workload="cache",
        members="cache-members.shop.svc.cluster.local",
        sentinels="cache-sentinel.shop.svc.cluster.local",
        replicas=3,
    )
    return Place(
        pod="cache-1",
        namespace="shop",
        ip="10.0.0.2",
        settings=settings,
        settings_path=tmp_path / "settings",
        credentials_path=tmp_path / "credentials",
        internal_path=tmp_path / "internal",
        run=tmp_path / "run",
        data=tmp_path / "data",
    )


def test_users_hold_hashes_only(place: Place) -> None:
    for text in (files.users(place), files.sentinel_users(place)):
        assert place.password() not in text
        assert "secret-" not in text
        assert f"user default on #{hashlib.sha256(place.password().encode()).hexdigest()} " in text


def test_nobody_but_the_application_reads_keys(place: Place) -> None:
    for entry in files.users(place).splitlines():
        assert ("resetkeys" in entry) is not entry.startswith("user default ")


def test_cluster_members_may_hand_keys_to_one_another_and_nobody_else_may(place: Place) -> None:
    in_cluster = replace(place, settings=replace(place.settings, mode="cluster"))
    found = {line.split()[1]: line for line in files.users(in_cluster).splitlines()}
    assert "(~* +migrate)" in found["operator"]
    assert "(~* +restore-asking +select)" in found["replica"]
    assert "migrate" not in files.users(place).replace("default", "")
    assert "restore" not in files.users(place)


def test_r04_a_role_outlives_the_pod(place: Place) -> None:
    assert files.remembered(place.configuration) is None
    files.write(place.configuration, files.configuration(place, A))
    assert files.remembered(place.configuration) == A
    assert place.configuration.stat().st_mode & 0o777 == 0o600
    files.write(place.configuration, files.configuration(place, None))
    assert files.remembered(place.configuration) == ""


def test_data_is_what_redis_wrote(place: Place) -> None:
    files.write(place.configuration, files.configuration(place, None))
    assert not files.has_data(place.data)
    (place.data / "appendonlydir").mkdir()
    (place.data / "appendonlydir/appendonly.aof.1.base.rdb").touch()
    assert not files.has_data(place.data)
    (place.data / "appendonlydir/appendonly.aof.1.base.rdb").write_bytes(b"REDIS0010")
    assert files.has_data(place.data)


def test_a_lone_snapshot_is_read_before_the_append_only_file_begins(place: Place) -> None:
    assert "appendonly yes\n" in files.configuration(place, None)
    (place.data / "dump.rdb").write_bytes(b"REDIS0010")
    assert "appendonly no\n" in files.configuration(place, None)
    (place.data / "appendonlydir").mkdir()
    assert "appendonly yes\n" in files.configuration(place, None)


def test_r07_a_sentinel_keeps_its_identity(place: Place) -> None:
    first, again = (files.sentinel_configuration(place, A, [B, C], 7) for _ in range(2))
    assert first == again
    lines = first.splitlines()
    assert f"sentinel monitor mymaster {A} 6379 2" in lines
    assert f"sentinel known-replica mymaster {B} 6379" in lines
    assert "sentinel config-epoch mymaster 7" in lines
    identity = next(line.split()[2] for line in lines if line.startswith("sentinel myid"))
    assert len(identity) == 40


def test_r04_a_cluster_finds_its_members_where_they_are_now() -> None:
    first, second = "a" * 40, "b" * 40
    before = (
        f"{first} 10.0.0.1:6379@16379,{A} myself,master - 0 0 1 connected 0-5460\n"
        f"{second} 10.0.0.2:6379@16379,{B},shard-id=1 slave {first} 0 0 1 connected\n"
        "vars currentEpoch 5 lastVoteEpoch 0\n"
    )
    known = {B: "10.0.9.9"}
    after = before.replace("10.0.0.2", "10.0.9.9")
    assert files.readdressed(before, known.get) == after
    assert files.readdressed(after, known.get) == after
    assert files.readdressed(before, lambda host: None) == before


INFO = """# Server
redis_version:7.0.15
loading:0
# Replication
role:slave
master_host:cache-0.cache-members.shop.svc.cluster.local
master_link_status:up
connected_slaves:0
master_repl_offset:42
# Keyspace
db0:keys=1,expires=0,avg_ttl=0
replica-announce-ip
cache-1.cache-members.shop.svc.cluster.local
"""


def test_a_member_s_answer() -> None:
    want = Peer(host=B, role="slave", master_host=A, link_up=True, keys=True, replicas=0, offset=42)
    assert ask.peer(INFO) == want
    assert ask.peer("NOAUTH Authentication required.\nNOAUTH Authentication required.\n") is None
    assert ask.peer("") is None


def test_a_sentinel_s_answer() -> None:
    promoted = f"{B}\n6379\nname\nmymaster\nip\n{A}\nport\n6379\nconfig-epoch\n3\n"
    assert ask.view(promoted) == View(3, B, settled=False)
    assert ask.view("\nERR No such master with that name\n") is None
    assert ask.view("") is None


@pytest.mark.parametrize(
    ("replica", "want"),
    [
        ({"master_link_status": "up", "slave_repl_offset": "42"}, True),
        ({"master_link_status": "up", "slave_repl_offset": "41"}, False),
        ({"master_link_status": "down", "slave_repl_offset": "42"}, False),
        ({}, False),
    ],
)
def test_a_primary_hands_over_only_to_who_has_all(replica: dict[str, str], want: bool) -> None:
    assert caught_up({"master_repl_offset": "42"}, replica) is want


@pytest.mark.parametrize("argv", [[], ["start"], ["client-reconfig"], ["/run/redis/client-reconfig", "mymaster"]])
def test_wrong_words_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "usage" in capsys.readouterr().err
