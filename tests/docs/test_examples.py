"""The examples of README.md and docs/ work as they stand there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from realtime_bus.testing import place_call, run_virtual

from ._blocks import PAGES, ROOT, Block, blocks, compiled, resolve_names, run

ALL = blocks()
RUN = [block for block in ALL if block.mark == "run"]


@pytest.fixture
def structlog_unconfigured() -> Iterator[None]:
    """Let each example find structlog unconfigured; `capture_logs` leaves it configured."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.where)
def test_every_example_is_marked_and_names_what_exists(block: Block) -> None:
    """An example says how it is tested, and what it imports and selects is there."""
    assert block.mark, f"{block.where}: put <!-- run --> or <!-- compile --> on the line before"
    compiled(block)
    resolve_names(block)


@pytest.mark.usefixtures("structlog_unconfigured")
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.where)
def test_an_example_runs_and_prints_what_the_page_says(
    block: Block,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A marked example runs against the local server and prints the text block below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run(block)
    if block.prints is not None:
        assert capsys.readouterr().out == block.prints


LINKED = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]
OUR_FILES = "https://github.com/realtime-bus/realtime-bus/blob/main/"
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A link to a file of ours names one, and its anchor a heading in it."""
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        where = f"{page.relative_to(ROOT)}: {target}#{anchor}"
        if target.startswith(OUR_FILES):
            file = ROOT / target.removeprefix(OUR_FILES)
        elif target.startswith("https:"):
            continue
        else:
            file = (page.parent / target).resolve() if target else page
        assert file.exists(), where
        assert not anchor or anchor in _anchors(file), where


def test_the_readme_can_be_read_elsewhere() -> None:
    """A package index shows README.md without the files beside it: its links have addresses."""
    links = _LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [target for target, _ in links if not target.startswith("https://")] == []


def test_the_readmes_test_tests_the_readmes_agent() -> None:
    """The program's bus, as it stands there, passes the test that stands below it."""
    program, test, *_ = (block for block in ALL if block.page.name == "README.md")
    names: dict[str, Any] = {"__name__": "agent"}
    for block in (program, test):
        exec(compiled(block), names)  # noqa: S102  # what the page shows
    run_virtual(names["test_it_sets_a_timer"], place_call)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
