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


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the backends of a test, and their clocks."""
    marker = metafunc.definition.get_closest_marker("virtual_time")
    if marker is None and "place_call" not in metafunc.fixturenames:
        return
    virtual, backends = _options(marker)
    for mark in metafunc.definition.iter_markers("parametrize"):
        if "anyio_backend" in str(mark.args[0]):
            return  # the test says it itself
    if virtual or backends is not None:
        from anyio import get_available_backends  # noqa: PLC0415  # costs those who use it

        from realtime_bus.testing import virtual_time  # noqa: PLC0415  # the same

        names: Any = backends or [b for b in get_available_backends() if b in ("asyncio", "trio")]
        found = [virtual_time(name) if virtual else (name, {}) for name in names]
        # as a mark: it goes before what the fixture itself says, whoever defines that
        mark = pytest.mark.parametrize("anyio_backend", found, ids=names)
        metafunc.definition.add_marker(mark)


def _options(
    marker: pytest.Mark | None,
) -> tuple[bool, list[str] | None]:
    def read(virtual: bool = True, backends: list[str] | None = None) -> Any:
        return virtual, backends

    options: tuple[bool, list[str] | None] = read(*marker.args, **marker.kwargs) if marker else (True, None)
    return options


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> None:
    """Have marked functions run by anyio's plugin; those with the fixture ask for it by that."""
    own = getattr(obj, "pytestmark", ())
    marks = [*(own if isinstance(own, list) else ()), *collector.iter_markers("virtual_time")]
    if collector.istestfunction(obj, name) and any(m.name == "virtual_time" for m in marks):
        pytest.mark.usefixtures("anyio_backend")(obj)


@pytest.fixture
def place_call(request: pytest.FixtureRequest, anyio_backend: Any) -> Any:
    """Return `realtime_bus.testing.place_call`; what happened in its calls is shown on failure."""
    from contextlib import asynccontextmanager  # noqa: PLC0415  # costs those who use it

    from realtime_bus.testing import place_call as place  # noqa: PLC0415  # the same

    calls = request.node.stash.setdefault(_CALLS, [])

    @asynccontextmanager
    async def placed(*args: Any, **kwargs: Any) -> Any:
        async with place(*args, **kwargs) as call:
            calls.append(call)
            yield call

    return placed


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
