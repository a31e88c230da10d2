"""Fixtures that every test may use."""

import logging
from collections.abc import Iterator

import pytest


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
