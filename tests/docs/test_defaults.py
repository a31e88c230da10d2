"""What the pages say of defaults is so."""

from pathlib import Path

import pytest

from ._blocks import PAGES
from ._defaults import complaints


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_defaults_in_the_docs_are_those_of_the_signatures(page: Path) -> None:
    """Each default that a page names is the one that the function has."""
    assert list(complaints(page.read_text(encoding="utf-8"))) == []


def table(marked: str, *rows: str) -> str:
    """Return a page with a table of defaults."""
    return "\n".join([f"<!-- defaults: {marked} -->", "| Option | Default |", "|---|---|", *rows])


@pytest.mark.parametrize(
    "row",
    [
        "| `open_timeout_s` | 10 |",
        "| `ping_interval_s`, `ping_timeout_s` | 5, 8 |",
        "| `max_frame_bytes` | 64 MiB |",
        "| `api_key` | from the environment |",
        "| `call_id` | |",
        "| `intent` | None |",
        "| `call_id`, `intent` | | what for |",
        "| settings | see below |",
    ],
)
def test_a_row_that_is_right(row: str) -> None:
    """Numbers, units, and words for None are understood."""
    assert list(complaints(table("Bus.connect", row))) == []


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("| `open_timeout_s` | 12 |", "open_timeout_s=10.0) is the default, not '12'"),
        ("| `open_timeout_s` | short |", "open_timeout_s=10.0) is the default, not 'short'"),
        ("| `max_frame_bytes` | 64 KiB |", "max_frame_bytes=67108864) is the default"),
        ("| `ping_interval_s`, `ping_timeout_s` | 5, 30 |", "ping_timeout_s=8.0)"),
        ("| `api_key` | 5 |", "api_key=None) is the default, not '5'"),
    ],
)
def test_a_row_that_is_wrong(row: str, found: str) -> None:
    """A cell with another value, or in words where there is a value, is found."""
    (complaint,) = complaints(table("Bus.connect", row))
    assert found in complaint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A request takes at most 10 s.", None),
        ("A request takes at most 12 s.", "does not say 10"),
        ("A request takes its time, 10 000 ms of it.", "does not say 10"),
        ("A request.\n\nIt takes 10 s.", "does not say 10"),
    ],
)
def test_prose_has_the_number(text: str, found: str | None) -> None:
    """The paragraph below a mark has the value that the mark claims."""
    complaint = "".join(complaints(f"<!-- defaults: Session.request(timeout_s=10) -->\n{text}"))
    assert complaint == "" if found is None else found in complaint


def test_a_mark_that_is_wrong() -> None:
    """A mark with another value than the signature is found, whatever the text says."""
    page = "<!-- defaults: Session.request(timeout_s=12), Bus(log_errors=1) -->\nAt most 12 s."
    first, second = complaints(page)
    assert "Session.request(timeout_s=10.0) is the default, not 12" in first
    assert "Bus(log_errors=True) is the default, not 1" in second


def test_a_table_of_defaults_says_whose_they_are() -> None:
    """A column 'Default' without a mark before it is found, and a mark without a column."""
    assert "whose defaults" in "".join(complaints("\n| Option | Default |\n|---|---|\n"))
    assert list(complaints(table("nowhere, because it is a TypedDict"))) == []
    assert "has no table" in "".join(complaints("<!-- defaults: Bus -->\nNo table."))


def test_a_parameter_that_does_not_exist_is_found() -> None:
    """A renamed parameter does not stay in the docs."""
    with pytest.raises(AssertionError, match="Bus has no parameter 'colour'"):
        list(complaints(table("Bus", "| `colour` | 1 |")))
