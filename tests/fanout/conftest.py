"""A real broker for all of these tests, and applications of their own names on it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from benchmarks.broker import NatsServer

_NUMBERS = itertools.count(1)


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio alone: nats-py is made for it."""
    return "asyncio"


@pytest.fixture(scope="session")
def broker() -> Iterator[NatsServer]:
    """Return a NATS server that all tests share; none of them kills it."""
    with NatsServer() as server:
        yield server


@pytest.fixture
def own_broker() -> Iterator[NatsServer]:
    """Return a NATS server for one test, which may kill it."""
    with NatsServer() as server:
        yield server


@pytest.fixture
def app() -> str:
    """Return the name of an application that no other test has."""
    return f"t{os.getpid()}_{next(_NUMBERS)}"
