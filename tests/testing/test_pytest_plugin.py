"""The plugin for pytest, in projects as users have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import realtime_bus.testing  # noqa: F401  # now: pytester forgets what a project of its own imports
import realtime_bus_plugins.tools  # noqa: F401  # the same

pytest_plugins = ["pytester"]

AGENT = '''
import anyio, pytest
from realtime_bus import Bus
from realtime_bus.testing import tool_call
from realtime_bus_plugins.tools import Tools

tools = Tools()
agent = Bus(plugins=[tools])

@tools.tool
async def look_up(dish: str) -> str:
    """Look up how long a dish takes."""
    await anyio.sleep(0.4)
    return "9 min"
'''

PASSES = """
async def test_it_knows_how_long(place_call):
    async with place_call(agent, [tool_call("look_up", dish="pasta"), "Nine minutes."]) as call:
        await call.person.says("How long does the pasta take?")
        assert await call.person.hears() == "Nine minutes."
    call.assert_called("look_up", dish="pasta")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Return what runs a test module in a project of its own, in this process."""
    for name in ("CI", "BUILD_NUMBER"):  # with one of them pytest's summary repeats whole messages
        monkeypatch.delenv(name, raising=False)

    def run(source: str, *options: str, conftest: str = "") -> pytest.RunResult:
        pytester.makepyfile(test_agent=AGENT + source)
        pytester.makeconftest(conftest)
        # the plugin came by its entry point; no file of this project is read
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", *options)

    return run


def test_a_test_needs_nothing_but_the_fixture(run) -> None:
    """No mark, no clock: it runs on both backends."""
    result = run(PASSES, "-v", "--strict-markers")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*test_it_knows_how_long[[]asyncio] PASSED*", "*test_it_knows_how_long[[]trio] PASSED*"]
    )


def test_a_call_is_gone_when_its_test_is_over(run) -> None:
    """With its session, its server and its recording: pytest keeps its items to the end."""
    conftest = """
import gc
from realtime_bus.testing import Call

def calls():
    gc.collect()
    return {id(each) for each in gc.get_objects() if type(each) is Call}

before = calls()  # of others, in the process that runs this

def pytest_sessionfinish():
    print("calls left:", len(calls() - before))
"""
    result = run(PASSES, "-s", "-k", "asyncio", conftest=conftest)
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*calls left: 0*"])


def test_a_failure_shows_what_happened(run) -> None:
    """A plain assert gets the time line, too, and no more frames than its own."""
    result = run(PASSES.replace('hears() == "Nine', 'hears() == "Ten'), "-k", "asyncio")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: assert 'Nine minutes.' == 'Ten minutes.'",
            "*- what happened in the call -*",
            "*s  person     “How long does the pasta take?”",
            "*s  assistant  calls look_up(dish='pasta')",
            "*s  assistant  “Nine minutes.”",
        ]
    )
    result.stdout.no_fnmatch_line("*_call.py*")


def test_what_a_call_is_blamed_for_is_shown_once(run) -> None:
    """Its message has the time line already, and it is told where the test is, not where we are."""
    source = """
async def test_it(place_call):
    async with place_call(agent, []) as call:
        await call.person.says("Hello.")
        await call.settles()
"""
    result = run(source, "-k", "asyncio", "--color=no")
    result.stdout.fnmatch_lines(["*AssertionError: the call did not go well:"])
    shown = str(result.stdout)
    assert shown.lower().count("what happened in the call") == 1
    assert "_call.py" not in shown


def test_why_nothing_comes_is_on_the_time_line(run) -> None:
    """A fault on order, a script that is at its end; and by what name it may be tolerated."""
    source = """
from realtime_bus.server import faults

@pytest.mark.parametrize("answers", [["Yes."], []])
async def test_it(place_call, answers):
    plan = [faults.Stall(at="response.created", for_s=40.0)]
    async with place_call(agent, answers, faults=plan) as call:
        await call.person.says("Hello.")
        await call.person.hears()

async def test_blamed(place_call):
    async with place_call(agent, []) as call:
        await call.person.says("Hello.")
        await call.settles()
"""
    shown = str(run(source, "-k", "asyncio", "--color=no").stdout)
    assert "s  fault      stall at response.created" in shown
    assert "s  model      is asked once more than its script has answers" in shown
    assert "asked for 1 answers, and its script has 0  [unscripted]" in shown
    assert "tolerate={...}" in shown


def test_marks_choose_clock_and_backends(run) -> None:
    """Any test may run in virtual time; one with a call may have it real."""
    source = """
import time

@pytest.mark.virtual_time
async def test_an_hour():
    await anyio.sleep(3600)

@pytest.mark.virtual_time(backends=["trio"])
class TestTrio:
    async def test_an_hour(self, anyio_backend_name):
        await anyio.sleep(3600)
        assert anyio_backend_name == "trio"

@pytest.mark.virtual_time(False, backends=["asyncio"])
async def test_real_time(place_call):
    began_s = time.monotonic()
    async with place_call(agent) as call:
        await anyio.sleep(0.1)
    assert time.monotonic() - began_s > 0.09

@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_its_own_choice(place_call):
    async with place_call(agent):
        pass

def test_sync():
    pass
"""
    run(source, "--strict-markers").assert_outcomes(passed=6)


def test_it_gets_on_with_a_projects_own_fixtures(run) -> None:
    """Those of anyio's plugin, and async ones that place calls."""
    conftest = """
import pytest

@pytest.fixture(scope="session", params=["asyncio"])
def anyio_backend(request):
    return request.param

@pytest.fixture
async def call(place_call):
    from test_agent import agent
    async with place_call(agent, ["Hello."]) as call:
        yield call
"""
    source = """
async def test_by_another_fixture(call):
    assert await call.person.hears(within_s=60) == "Hello." if call.now_s > 60 else True

@pytest.mark.anyio
async def test_of_their_own(anyio_backend_name):
    assert anyio_backend_name == "asyncio"

@pytest.mark.anyio
async def test_marked_twice(place_call):
    await anyio.sleep(3600)

@pytest.mark.parametrize("words", ["Hello.", "Goodbye."])
async def test_with_parameters(place_call, words):
    async with place_call(agent, [words]) as call:
        await call.person.says("Hm?")
        assert await call.person.hears() == words
"""
    run(source, conftest=conftest).assert_outcomes(passed=9)


def test_it_can_be_left_out(run) -> None:
    """As every plugin can."""
    result = run(PASSES, "-p", "no:realtime_bus")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'place_call' not found"])


def test_it_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    """Nothing of the library is imported."""
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "realtime_bus" not in sys.modules
        """
    )
    [plugin] = entry_points(group="pytest11", name="realtime_bus")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin.value]
    done = subprocess.run(
        command,
        cwd=pytester.path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # there are slower ones
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_tutorial(run, pytester: pytest.Pytester) -> None:
    """What docs/testing.md shows is a test module that passes, on both backends."""
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- compile -->\n```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    pytester.makepyfile(test_agent="\n\n".join(blocks))
    options = ("-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers")
    pytester.runpytest_inprocess(*options, "-k", "goes_as_it", "--update-golden").assert_outcomes(
        passed=2, deselected=11
    )
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=13)
