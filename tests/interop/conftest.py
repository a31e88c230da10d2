"""Conversations with other people's clients: what they share."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: none of these clients knows trio."""
    return "asyncio"
