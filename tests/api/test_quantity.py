"""Quantities: the rules of k8s.io/apimachinery, as a table and as properties."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database_operator.api import quantity
from database_operator.api.spec import StorageSpec

SMALL: dict[str, int | Fraction] = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": 1}
SCALE: dict[str, int | Fraction] = {
    **SMALL,
    **{letter: 1000**power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("500m", "0.5"),
        ("1.5Gi", "1610612736"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+5", "5"),
        ("-5Gi", "-5368709120"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1E", "1000000000000000000"),
        ("12e-1", "1.2"),
        ("128974848", "128974848"),
        ("129M", "129000000"),
        ("123Mi", "128974848"),
        ("100u", "0.0001"),
    ],
)
def test_parse_gives_the_value_that_kubernetes_gives(text: str, value: str) -> None:
    assert quantity.parse(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", " 1", "1 Gi", "1GB", "1gi", "1K", "Gi", "1.5.2", "--1", "1e", "1e1.5", "1Gi\n", "0x10", "١", "9" * 65]
)
def test_parse_refuses_what_kubernetes_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as"):
        quantity.parse(text)


@given(st.integers(0, 10**15), st.integers(0, 10**9 - 1), st.sampled_from(sorted(SCALE)))
def test_every_number_and_suffix_is_exact(whole: int, fraction: int, suffix: str) -> None:
    text = f"{whole}.{fraction:09d}{suffix}"
    exact = (whole + Fraction(fraction, 10**9)) * SCALE[suffix]
    assert Fraction(quantity.parse(text)) == exact
    assert 0 <= quantity.whole_bytes(text) - exact < 1
    assert 0 <= exact - quantity.mebibytes(text) * 1024**2 < 1024**2
    assert 0 <= quantity.millicores(text) - exact * 1000 < 1


def test_the_usual_ones() -> None:
    assert quantity.mebibytes("512Mi") == 512
    assert quantity.mebibytes("1G") == 953
    assert quantity.millicores("1.5") == 1500
    assert quantity.millicores("100u") == 1
    assert quantity.whole_bytes(StorageSpec().size) == 10 * 1024**3
