"""Whom the operator takes for chosen by the Sentinels."""

import pytest

from database_operator.reconcile.connections.redis import View, elected

OLD, NEW = "orders-0.orders-members", "orders-1.orders-members"


@pytest.mark.parametrize(
    ("views", "host"),
    [
        pytest.param([View(1, NEW, "a"), View(1, NEW, "b"), View(1, NEW, "c")], NEW, id="all agree"),
        pytest.param([View(2, NEW, "a"), View(2, NEW, "b"), View(1, OLD, "c")], NEW, id="one has not heard of the election"),
        pytest.param([View(2, NEW, "a"), View(1, OLD, "b"), View(1, OLD, "c")], None, id="one alone knows of it"),
        pytest.param([View(0, OLD, "a", settled=False), View(0, OLD, "b"), View(0, OLD, "c")], None, id="r03 a failover goes on"),
        pytest.param([View(0, OLD, "b"), View(0, OLD, "c")], None, id="the one that is silent may lead a failover"),
        pytest.param([], None, id="nobody answers"),
    ],
)
def test_r03_a_promotion_that_goes_on_is_not_undone(views: list[View], host: str | None) -> None:
    assert elected(views) == host
