"""A recorded session as one HTML page, which opens from disk without a network."""

from __future__ import annotations

from collections.abc import Iterable

from realtime_bus.recording import Line

from ._data import inspected
from ._page import page

__all__ = ["inspection_page"]


def inspection_page(recording: Iterable[Line], *, audio: bool = True) -> bytes:
    """Return the page for a recording: a `Recording`, or its lines, the header first.

    Args:
        recording: What is to be seen.
        audio: Whether it can be played in the page; it takes some 11 kB a second of each voice.

    Raises:
        MissingExtra: The packages of the extra ``audio`` are not installed.
    """
    made = inspected(recording, audio=audio)
    return page(made.title, made.data, made.frames, made.audio)
