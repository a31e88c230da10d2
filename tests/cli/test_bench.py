"""`realtime-bus bench`: what it measures with, not how fast that is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from realtime_bus.cli import bench
from realtime_bus.cli.bench import FLOOR, OURS, Figure, Section, figure, interleaved, show


def _section(**changes: object) -> Section:
    figures = {"mix": {"ours": Figure(3.0, 2.0), "theirs": Figure(9.0, 4.0)}}
    rules = {"ours": "as it is", "theirs": "as they do", "absent": "as it would"}
    made = Section("it", "A title", ("s", 1.0), figures, rules, "ours", {"absent": "not installed"})
    return made._replace(**changes)  # type: ignore[arg-type]  # fields of the section


def test_ratios_of_work_are_of_minima() -> None:
    """A row's ratio is its minimum by ours, for noise only ever adds to work."""
    assert _section().ratio("mix", "theirs") == 2.0


def test_ratios_of_latencies_are_of_medians() -> None:
    """A section of latencies compares medians."""
    assert _section(by="median").ratio("mix", "theirs") == 3.0


def test_a_row_that_was_left_out_has_no_ratio() -> None:
    """What was not measured is neither faster nor slower."""
    assert _section().ratio("mix", "absent") is None
    assert _section().ratio("elsewhere", "theirs") is None


def test_the_table_says_who_was_left_out_and_by_what_rule() -> None:
    """A table shows ratios, the rule beside each row, and why a row is missing."""
    console = Console(file=io.StringIO(), width=120)
    show(console, _section())
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    assert "2.00x" in shown
    assert "theirs: as they do" in shown
    assert "absent: left out, not installed" in shown


def test_rounds_are_interleaved_and_the_first_does_not_count() -> None:
    """Every row runs once in each round, in turn, and a round of warming up before."""
    calls: list[str] = []
    work = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    found = interleaved(work, units=1, rounds=2)
    assert calls == ["a", "b"] * 3
    assert set(found) == {"a", "b"}


def test_a_figure_is_a_median_and_a_minimum() -> None:
    """One slow round moves neither."""
    assert figure([2.0, 1.0, 99.0]) == Figure(2.0, 1.0)


def test_a_peer_that_is_not_installed_is_told_from_one_that_is() -> None:
    """Also where the package of a module is missing."""
    assert bench.is_installed(None)
    assert bench.is_installed("msgspec.json")
    assert not bench.is_installed("no_such_package.at_all")


@pytest.mark.slow
def test_every_frame_comes_through_the_socket() -> None:
    """Sender and clients are processes; each row gets the same frames and loses none."""
    rows = [row for row in bench.rows() if row.name in {OURS, FLOOR}]
    found = bench.full_speed(rows, rounds=1)
    assert found.left_out == {}
    assert set(found.figures["CPU a frame"]) == {OURS, FLOOR}
