"""What was otherwise than it was recorded, and what became of a connection."""

from __future__ import annotations

from typing import Literal

import msgspec

from realtime_bus.errors import CloseInfo


class Deviation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was otherwise than it was recorded.

    Attributes:
        kind: ``missing``: it was not done. ``unexpected``: it was not done then. ``changed``: it
            was done otherwise. ``order``: it was done later than something that came after it then.
            ``left_out``: a frame that made no sense was not played. ``parted``: nothing could be
            played any more.
        type: The frame's type.
        recorded_s: When it came in the recording, if it did; seconds.
        path: Which field.
        recorded: What it was.
        live: What it is.
    """

    kind: Literal["missing", "unexpected", "changed", "order", "left_out", "parted"]
    type: str
    recorded_s: float | None = None
    path: str = ""
    recorded: str = ""
    live: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        when = "" if self.recorded_s is None else f" (recorded at {self.recorded_s:.3f} s)"
        where = f" {self.path}" if self.path else ""
        values = f": {self.recorded} then, {self.live} now" if self.kind == "changed" else ""
        reason = f": {self.live}" if self.live and not values else ""
        return f"{self.kind}: {self.type or 'frame'}{where}{when}{values}{reason}"


class PlaybackReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one connection on which one half of a recording was played.

    Attributes:
        connection: Which of the recording's connections it was, from 0.
        frames: How many frames that half has.
        played: How many of them were sent.
        waits_for: What is waited for, in words; empty if nothing is.
        parted: Whether the other side has gone another way.
        close: How the connection ended, if it has.
        deviations: What the other side did otherwise than the recorded one.
    """

    connection: int
    frames: int
    played: int
    waits_for: str = ""
    parted: bool = False
    close: CloseInfo | None = None
    deviations: tuple[Deviation, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all was played."""
        return self.played >= self.frames

    def __str__(self) -> str:
        """Say it in words, a line for each deviation."""
        waiting = f", waiting for {self.waits_for}" if self.waits_for else ""
        head = f"connection {self.connection}: {self.played} of {self.frames} frames{waiting}"
        return "\n".join([head, *(f"  {deviation}" for deviation in self.deviations)])
