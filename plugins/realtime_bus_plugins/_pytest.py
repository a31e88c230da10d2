"""The plugin for pytest: the fixture ``place_call``, and time that passes while everybody waits.

A test that asks for ``place_call`` (or a fixture that does), or is marked with ``virtual_time``,
runs in virtual time on each backend there is, by anyio's own plugin; it needs no other mark.
``@pytest.mark.virtual_time(backends=["asyncio"])`` names the backends, and
``@pytest.mark.virtual_time(False)`` lets the time be real. A test that fails shows what happened
in its calls.

pytest imports this module wherever the distribution is installed. So it stands here, imports
nothing, and looks at the names of fixtures only: `realtime_bus` takes a fifth of a second.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from realtime_bus.testing import Call

_MARKER = "virtual_time(virtual=True, backends=None): run the test in virtual time; with False, not"
_CALLS = pytest.StashKey[list["Call"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that makes recordings anew."""
    parser.getgroup("realtime-bus").addoption(
        "--update-golden",
        action="store_true",
        help="write the recordings that calls are compared with, in place of comparing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the backends of a test, and their clocks."""
    marker = metafunc.definition.get_closest_marker("virtual_time")
    if marker is None and "place_call" not in metafunc.fixturenames:
        return
    marks = metafunc.definition.iter_markers("parametrize")
    if any("anyio_backend" in str(mark.args[0]) for mark in marks):
        return  # the test says it itself
    if _taken_away(metafunc.config):
        pytest.fail(_STRICT, pytrace=False)
    from realtime_bus.testing import virtual_time  # noqa: PLC0415  # costs those who use it

    options: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
    virtual = marker.args[0] if marker and marker.args else options.get("virtual", True)
    names: Any = options.get("backends") or (["asyncio", "trio"] if _has_trio() else ["asyncio"])
    found: list[object] = [virtual_time(name) if virtual else (name, {}) for name in names]
    # as a mark: it goes before what a fixture of that name says, whoever defines it
    metafunc.definition.add_marker(pytest.mark.parametrize("anyio_backend", found, ids=names))


_STRICT = (
    "pytest-asyncio in its auto mode runs this test in real time, and without anyio; "
    'set asyncio_mode = "strict" in the configuration of pytest, and mark its own tests'
)


def _taken_away(config: pytest.Config) -> bool:
    if not config.pluginmanager.has_plugin("asyncio"):
        return False
    mode = config.getoption("asyncio_mode", None) or config.getini("asyncio_mode")
    return str(getattr(mode, "value", mode)) == "auto"


def _has_trio() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415  # costs those who use it

    return find_spec("trio") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> None:
    """Have marked functions run by anyio's plugin; those with the fixture ask for it by that."""
    own: Any = getattr(obj, "pytestmark", ())
    names = {mark.name for mark in own if isinstance(mark, pytest.Mark)}
    marked = "virtual_time" in names or collector.get_closest_marker("virtual_time") is not None
    if marked and collector.istestfunction(obj, name):
        pytest.mark.usefixtures("anyio_backend")(obj)


@pytest.fixture
def place_call(request: pytest.FixtureRequest, anyio_backend: Any) -> Generator[Any]:  # noqa: ARG001  # it runs by it
    """Give `realtime_bus.testing.place_call`; what happened in its calls is shown on failure.

    Its golden recordings lie beside the test's file.
    """
    from realtime_bus.testing import place_call as place  # noqa: PLC0415  # costs those who use it

    calls: list[Call] = request.node.stash.setdefault(_CALLS, [])
    update_golden = bool(request.config.getoption("update_golden"))

    def placed(*args: Any, golden: Any = None, **options: Any) -> Any:
        if golden is not None:
            golden = request.path.parent / golden
        given = {"golden": golden, "update_golden": update_golden, "watch": calls.append}
        return place(*args, **{**given, **options})

    yield placed
    del request.node.stash[_CALLS]  # pytest keeps its items to the end, and they whole sessions


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Show what happened in a test's calls, if it failed."""
    outcome = yield
    calls = item.stash.get(_CALLS, None)
    report = outcome.get_result()
    if calls and report.failed and report.when == "call":
        from realtime_bus.testing import STORY_TITLE  # noqa: PLC0415  # it is loaded already

        if STORY_TITLE not in report.longreprtext:
            stories = "\n\n".join(call.story for call in calls)
            report.sections.append((STORY_TITLE.rstrip(":").lower(), stories))
