"""The page of proofs: read from the source as it is, and never silent about a gap."""

from pathlib import Path

import pytest

from tests.proofs import collect, page

MODULE = """
import pytest
from tests.words import TABLE

pytestmark = [pytest.mark.apiserver, pytest.mark.long]
HERE = [("K03 a case", 1), (f"I07 {1}", 2), ("none K04", 3)]
ROWS = {"spec.a": 1, "spec.b": 2}

@pytest.mark.proves("spec.c", *ROWS)
def test_p01_r02_something(): ...

@pytest.mark.parametrize("case", HERE)
def test_a_table(case): ...

class TestIt:
    @pytest.mark.parametrize("case", TABLE)
    @pytest.mark.pods
    def test_q01(self, case): ...

    def helper(self): ...
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/words.py").write_text("MORE = ['E05 a']\nTABLE = [*MORE, 'E06 b']\n")
    monkeypatch.setattr(collect, "PROJECT", tmp_path)
    return tmp_path / "tests/test_written.py"


def test_markers_names_and_tables_are_read(written: Path) -> None:
    written.write_text(MODULE)
    first, table, method = collect.tests()
    assert (first.name, first.level, first.long) == ("test_p01_r02_something", "API server", True)
    assert (first.proves, first.cases) == (("spec.c", "spec.a", "spec.b"), ("P01", "R02"))
    assert (table.proves, table.cases) == ((), ("I07", "K03"))
    assert (method.name, method.level, method.cases) == ("TestIt.test_q01", "pods", ("Q01", "E05", "E06"))


@pytest.mark.parametrize("marker", ["proves(rows())", "proves(f'a{1}')", "proves(*nowhere)", "proves(*ODD)"])
def test_a_marker_that_cannot_be_read_is_an_error(written: Path, marker: str) -> None:
    written.write_text(f"import pytest\nODD = [1, 'a']\n@pytest.mark.{marker}\ndef test_a(): ...\n")
    with pytest.raises(collect.Unreadable):
        collect.tests()


def _of(test: collect.Test, monkeypatch: pytest.MonkeyPatch, rows: dict[str, str], cases: dict[str, dict[str, str]]) -> list[str]:
    monkeypatch.setattr(page, "_collected", lambda: (test,))
    monkeypatch.setattr(page, "_catalogue", lambda: {"rows": rows, "cases": cases})
    return page.problems()


def test_nothing_is_tolerated_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {row.id: "why" for section in page.sections() for row in section.rows}
    unit = collect.Test("tests/test_x.py", "test_x", collect.UNIT, False, ("spec.replicas",), ("K01",))
    real = unit._replace(level="pods", proves=("spec.replicas", "no.row"), cases=("K01", "K99"))
    case = {"K01": {"case": "a"}}
    assert _of(unit, monkeypatch, every, case) == []
    (found,) = _of(unit, monkeypatch, {key: why for key, why in every.items() if key != "spec.replicas"}, case)
    assert found.startswith("spec.replicas has neither a test nor a reason: mark a test on the real API server or in pods")
    found = "\n".join(_of(real, monkeypatch, every | {"gone": "why"}, case | {"K02": {"case": "b"}}))
    for part in ("spec.replicas has a test now", "'no.row', which is no row", "gone is no row", "K02 has neither", "case K99 is not in"):
        assert part in found
    assert "K01 has a test now" in "\n".join(_of(real, monkeypatch, every, {"K01": {"case": "a", "without": "why"}}))


def test_a_reason_goes_once_a_test_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    real = collect.Test("tests/test_x.py", "test_x", "pods", False, ("spec.replicas",), ("K01",))
    monkeypatch.setattr(page, "_collected", lambda: (real,))
    rows = '[rows]\n"spec.replicas" = "why"\n"spec.type" = "why"\n'
    cases = '[cases]\nK01 = { case = "a", without = "why" }\nK02 = { case = "b", without = "why" }\n'
    text, left = rows + cases, '[rows]\n"spec.type" = "why"\n' + cases.replace(', without = "why"', "", 1)
    assert page.mended(text) == left


def test_the_page_is_current() -> None:
    assert page.problems() == []
