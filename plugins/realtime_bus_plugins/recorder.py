"""Record sessions: every frame both ways, what was heard, and what the bus told."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any, cast

import msgspec

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem
from realtime_bus.recording import Ended, Flushed, Header, Played, RecordingWriter, Told
from realtime_bus_plugins._playback import PlaybackInterrupted, PlaybackStarted

__all__ = ["Recorder"]


class Recorder:
    """Record each session to a file of its own.

    Args:
        folder: Where the files go.
        sink: What plays the session's audio, to note what was heard.
    """

    def __init__(self, folder: str | os.PathLike[str], *, sink: AudioSink | None = None) -> None:
        self._folder = Path(folder)
        self._sink = sink

    def attach(self, session: Session) -> None:
        """Record a session."""
        now = dt.datetime.now(dt.UTC)
        name = f"{now:%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"
        writer = RecordingWriter(
            self._folder / f"{name}.jsonl",
            Header(t_us=0, recording_id=name, started_at=now.isoformat()),
        )
        began_s = time.perf_counter()

        def t_us() -> int:
            return int((time.perf_counter() - began_s) * 1e6)

        def told(event: ev.BusEvent) -> None:
            fields: Any = msgspec.to_builtins(event, enc_hook=repr)
            fields.pop("type", None)
            if isinstance(event, PlaybackInterrupted):
                items = [
                    PlayedItem(
                        item_id=item.item_id,
                        content_index=item.content_index,
                        played_ms=item.played_ms,
                        written_ms=item.played_ms + item.discarded_ms,
                    )
                    for item in event.items
                ]
                writer.write(Flushed(t_us=t_us(), items=items))
            writer.write(
                Told(
                    t_us=t_us(),
                    type=event.type,
                    event=cast("dict[str, Any]", fields),
                    application=isinstance(event, ev.AppEvent),
                )
            )
            if isinstance(event, PlaybackStarted) and self._sink is not None:
                writer.write(Played(t_us=t_us(), items=self._sink.positions()))

        def ended() -> None:
            close = session.close_info
            if close is not None:
                writer.write(
                    Ended(t_us=t_us(), code=close.code, reason=close.reason, clean=close.clean)
                )
            writer.close()

        session.tap(
            received=lambda frame: writer.frame(t_us(), "in", frame),
            sent=lambda frame: writer.frame(t_us(), "out", frame),
        )
        session.on("bus.*")(told)
        session.on(ev.AppEvent)(told)
        session.on_close(ended)
