"""Fixtures that every test may use, and how the suite is spread over processes."""

import gc
import logging
import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

# Else each worker and each of a hundred commands under test would compile everything anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A deadline of milliseconds would measure what else the machine does. The state machines that
# matter most ask for more examples themselves; the benchmarks' fuzzers run by the million.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=50)
hypothesis.settings.load_profile("suite")

MOST_WORKERS = 4
"""More would only fight over what a test that measures time needs."""


IN_VIRTUAL_TIME = frozenset({"bus", "session", "timeline"})
"""Rooms in which nobody waits, and no test depends on how busy the machine is."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each async test on both backends."""
    if request.path.parent.name not in IN_VIRTUAL_TIME:
        return request.param
    from realtime_bus.testing import virtual_time

    return virtual_time(request.param)


@pytest.fixture(autouse=True)
def log_everything() -> Iterator[None]:
    """Let the library's log pass every level, as an application may."""
    logger = logging.getLogger("realtime_bus")
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(logging.NOTSET)
    structlog.reset_defaults()


@pytest.fixture(autouse=True, scope="session")
def disks_are_waited_for() -> Iterator[None]:
    """Let a recording be whole when its session has ended, however busy the machine is."""
    from realtime_bus.recording import _spool

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spool, "CLOSE_S", 20.0)
        yield


OF_TERMINALS = (
    *("CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES"),
    *("NO_COLOR", "PY_COLORS", "TERM"),
)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Let what a terminal or a CI wishes for hold for pytest's output, not for what is tested."""
    for name in OF_TERMINALS:
        os.environ.pop(name, None)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite in parallel, and what is named on the command line in one process."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    # one more than there are cores: many tests wait, for processes, sockets and sound
    return min((os.cpu_count() or 1) + 1, MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow ones, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Have the garbage collector look at what tests leave, not at thousands of tests."""
    gc.collect()
    gc.freeze()
