"""The table of the fault bench."""

import pytest

from bench.faults.__main__ import arguments, command
from bench.faults.checker import Overlap
from bench.faults.report import BEGIN, END, median, row, table, written
from bench.faults.run import Result


def result(**more: object) -> Result:
    fields: dict[str, object] = {
        "engine": "redis",
        "fault": "kill",
        "operator_stopped": False,
        "victim": "orders-0",
        "gaps": {"service": 4.0, "discovery": 3.0},
        "acknowledged": 1000,
        "safe": 990,
        "failed": 0,
        "unknown": 2,
        "unknown_kept": 1,
        "lost": 0,
        "lost_safe": 0,
        "overlaps": [],
        "moved": 4.0,
        "label": 0.1,
        "service": 0.2,
        "status": 0.3,
        "settled": 9.0,
        "terms": ["orders-0/a", "orders-1/b"],
        "load": 1.0,
    }
    return Result(**(fields | more))  # type: ignore[arg-type]


def test_a_row_shows_what_was_lost_and_who_wrote_at_once() -> None:
    runs = [result(), result(lost=3, lost_safe=1, overlaps=[Overlap("a", "b", 1.0)], gaps={"service": 9.0}), result(settled=None)]
    cells = [cell.strip() for cell in row(runs).split("|")]
    assert "3" in cells
    assert "4.0 / 9.0" in cells
    assert "5 / 8" in cells
    assert "1 (and 2 that no second member had confirmed)" in cells
    assert cells[cells.index("1 (and 2 that no second member had confirmed)") + 1] == "1"


def test_runs_that_nobody_could_read_back_are_told() -> None:
    assert "| 0; 1 runs not read back |" in row([result(), result(read=False)])


def test_runs_without_the_operator_have_a_row_of_their_own() -> None:
    assert len(table([result(), result(operator_stopped=True), result(fault="hang")]).splitlines()) == 2 + 3


def test_figures_go_between_their_marks_and_nowhere_else() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert written(text, "new") == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert written(written(text, "new"), "newer") == f"before\n{BEGIN}\n\nnewer\n{END}\nafter\n"
    with pytest.raises(ValueError, match="are to stand"):
        written("nothing", "new")


def test_the_median_is_one_that_was_measured() -> None:
    assert (median([3.0, 1.0, 2.0]), median([1.0, 2.0, 3.0, 4.0])) == (2.0, 2.0)


def test_the_command_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("--engine redis --fault kill --fault hang --load 2.5 --runs 3 --operator-stopped", "--runs 10"):
        monkeypatch.setattr("sys.argv", ["bench", *words.split()])
        assert command(arguments()) == f"python -m bench.faults {words}"
