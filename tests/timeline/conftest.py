"""These tests run in virtual time, on both backends."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_bus._virtual_time import Backend, virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run each async test in virtual time, on both backends."""
    backend: Backend = request.param
    return virtual_time(backend)
