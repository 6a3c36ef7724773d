"""Faults under writing clients: nothing acknowledged is lost, and never do two members take writes. Figures: ``python -m bench.faults``."""

from collections.abc import Callable, Iterator

import pytest

from bench.faults.engines import ENGINES
from bench.faults.faults import FAULTS
from bench.faults.run import Result, run
from bench.faults.site import Database
from localcluster import Cluster

pytestmark = pytest.mark.pods

Break = Callable[..., Result]


@pytest.fixture
def broken(cluster: Cluster) -> Iterator[Break]:
    """Runs one fault against the engine's database, which is made at the first and kept for the next."""
    made: dict[str, Database] = {}

    def break_it(engine: str, fault: str, *, operator_stopped: bool = False) -> Result:
        if engine not in made:
            made[engine] = Database(cluster, ENGINES[engine].spec(ENGINES[engine].members))
        database = made[engine]
        database.wait("whole", database.whole, 300)
        result = run(database, ENGINES[engine].client(database), fault, FAULTS[fault], stopped=operator_stopped)
        assert result.settled is not None, result.note
        assert not result.overlaps
        assert result.acknowledged > 100
        assert not result.note
        return result

    yield break_it
    for database in made.values():
        database.close()


def test_p02_a_deleted_primary_loses_no_acknowledged_write(broken: Break) -> None:
    assert broken("postgresql", "delete-pod-now").lost == 0


def test_r01_r12_a_killed_primary_loses_no_write_that_a_replica_confirmed(broken: Break) -> None:
    assert broken("redis", "kill").lost_safe == 0


@pytest.mark.long
def test_p01_p03_p04_p05_p08_p10_postgresql_loses_nothing_in_any_fault(broken: Break) -> None:
    for fault in ("kill", "hang", "partition-all", "partition-peers", "partition-api", "volume-lost", "all-pods"):
        assert broken("postgresql", fault).lost == 0, fault
    assert broken("postgresql", "delete-pod-now", operator_stopped=True).lost == 0


@pytest.mark.long
def test_p09_nobody_is_demoted_while_the_api_server_is_away(broken: Break) -> None:
    result = broken("postgresql", "api-server-down")
    assert (result.lost, result.moved) == (0, None)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["postgresql", "redis"])
def test_k18_a_primary_dies_while_the_api_server_is_away(broken: Break, engine: str) -> None:
    assert broken(engine, "kill-unseen").lost_safe == 0


@pytest.mark.long
def test_r02_r03_r04_r06_redis_loses_nothing_that_a_replica_confirmed_in_any_fault(broken: Break) -> None:
    for fault in ("delete-pod-now", "hang", "partition-all", "volume-lost", "all-pods"):
        assert broken("redis", fault).lost_safe == 0, fault
    assert broken("redis", "delete-pod-now", operator_stopped=True).lost_safe == 0


@pytest.mark.long
def test_q01_a_killed_sqlite_loses_nothing(broken: Break) -> None:
    assert broken("sqlite", "kill").lost == 0


@pytest.mark.long
def test_e02_a_killed_data_node_loses_nothing(broken: Break) -> None:
    assert broken("elasticsearch", "kill").lost == 0


@pytest.mark.long
def test_e01_e10_a_killed_or_hung_master_loses_nothing(broken: Break) -> None:
    for fault in ("kill", "hang"):
        assert broken("elasticsearch-master", fault).lost == 0, fault
