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


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both backends."""
    backend: str = request.param
    return backend


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
