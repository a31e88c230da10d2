"""Sessions run in virtual time: nobody waits, and no test depends on how busy the machine is."""

from typing import Any

import pytest

from realtime_bus.testing import virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run each async test on both backends."""
    return virtual_time(request.param)
