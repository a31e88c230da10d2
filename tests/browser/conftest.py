"""What the tests with a real browser need, or why they are skipped."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from realtime_bus.server import Voice
from realtime_bus_plugins.sinks import write_wav
from tests._checked import protocol_is_kept

__all__ = ["protocol_is_kept"]

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def anyio_backend() -> str:
    """Playwright and uvicorn run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return where Chromium is."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is missing: uv run --group browser pytest tests/browser")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or say where in CHROMIUM")
    return found


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return what records a person, who says these words and keeps silent for these seconds."""
    voice = Voice("en-us", rate_wpm=165, pitch=60)

    def record(*spoken: str | float) -> Path:
        pcm = bytearray()
        for each in spoken:
            if isinstance(each, str):
                pcm += b"".join(piece.pcm for piece in voice.synthesize(each))
            else:
                pcm += bytes(2 * round(24_000 * each))
        path = tmp_path_factory.mktemp("microphone") / "speech.wav"
        write_wav(path, bytes(pcm))
        return path

    return record
