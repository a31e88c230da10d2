"""Record sessions: every frame both ways, what was heard, and what the bus told.

::

    sink = Speaker()
    bus = Bus(plugins=[Microphone(), sink, Interruption(sink), Recorder("calls", sink=sink)])

The rules:

1. Each session has a file of its own, which is complete when the session's block has been left.
   Put the recorder before plugins that send: what is sent before it is attached is not in it.
2. A recording never holds up its session, and never ends it. What cannot be written waits, within
   a bound, and is told: a log line, `RecordingIncomplete`, and, of what found no room, a line in
   the file where it is missing.
3. Where playback stands is asked along with frames, `LOOK_S` after one another at least, while
   something plays. A flush is noted when `Interruption` tells of it; others are noticed from what
   the sink says next, and `_TOLD_S` later still. A sink that settles later is waited for.
4. Events of the bus are written down as far as they can be: numbers, texts, lists and objects; of
   bytes the length, of an exception its text and the place where it was raised.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import anyio
import msgspec

from realtime_bus import Session, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem, SettlingSink
from realtime_bus.recording import (
    Ended,
    Flushed,
    Header,
    Played,
    RecordingSpool,
    Told,
    check_compression,
    written_down,
)

from ._playback import PlaybackInterrupted

__all__ = ["Recorder", "RecordingIncomplete"]

LOOK_S: Final = 0.25  # a look and its line take 6 µs: ten a second would be 3 to 5 % of a session
_SETTLE_S = 2.0  # as long as Interruption waits
_TOLD_S = 0.05  # in which Interruption tells of a flush: it sends its commands before
_SLACK_MS = 60  # by which a sink's clock may be ahead of ours before silence counts as a flush

_FindSink: TypeAlias = Callable[[Session], AudioSink | None]


class RecordingIncomplete(ev.BusEvent, frozen=True, kw_only=True, tag="bus.recording_incomplete"):
    """A session's recording cannot be written, or lines are missing; the session goes on.

    What cannot be written waits for the disk to have room again, as far as `max_pending_bytes`
    allows: if it has, nothing is missing.

    Attributes:
        path: The recording's first file.
        reason: What is wrong, in words.
    """

    path: str
    reason: str


class Recorder:
    """Record each session to a file of its own.

    One recorder may serve all sessions of a bus.

    Args:
        folder: Where the files go; it is made.
        sink: What plays the session's audio, to note what was heard; or a function of the session
            that returns it, or None, where each call has a sink of its own.
        audio: Whether to keep audio.
        texts: Whether to keep texts: transcripts, instructions, arguments, what tools return.
        max_file_bytes: Where a session's next file begins; None for one file each.
        max_pending_bytes: How much of a session may wait to be written, also while the disk is
            full; what finds no room is left out, and told. All sessions of the process share
            64 MiB.
        compress: Whether to compress with zstd; needs the extra ``zstd``.
        labels: What the header says of each call; or a function of the session.

    Raises:
        MissingExtra: What compresses is not installed.
        UsageError: A bound allows nothing.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        sink: AudioSink | _FindSink | None = None,
        audio: bool = True,
        texts: bool = True,
        max_file_bytes: int | None = 1_073_741_824,
        max_pending_bytes: int = 16_777_216,
        compress: bool = False,
        labels: Mapping[str, str] | Callable[[Session], Mapping[str, str]] | None = None,
    ) -> None:
        if max_file_bytes is not None and max_file_bytes < 1:
            raise UsageError(f"max_file_bytes={max_file_bytes!r} must be at least 1, or None")
        if max_pending_bytes < 1:
            raise UsageError(f"max_pending_bytes={max_pending_bytes!r} must be at least 1")
        if compress:
            check_compression()
        self._folder = Path(folder)
        self._sink = sink
        self._audio = audio
        self._texts = texts
        self._max_file_bytes = max_file_bytes
        self._max_pending_bytes = max_pending_bytes
        self._ending = ".jsonl.zst" if compress else ".jsonl"
        self._labels = labels
        self._paths: WeakKeyDictionary[Session, Path] = WeakKeyDictionary()

    def attach(self, session: Session) -> None:
        """Record a session from its first frame on. Called by the bus."""
        now = dt.datetime.now(dt.UTC)
        name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        labels = self._labels(session) if callable(self._labels) else self._labels
        header = Header(
            t_us=0,
            recording_id=name,
            started_at=now.isoformat(),
            library=_LIBRARY,
            url=session.url,
            audio=self._audio,
            texts=self._texts,
            labels=dict(labels or {}),
        )
        path = self._paths[session] = self._folder / f"{name}{self._ending}"

        def trouble(why: str) -> None:
            session.emit(RecordingIncomplete(path=str(path), reason=why))

        spool = RecordingSpool(
            path,
            header,
            clock=session.clock,
            max_file_bytes=self._max_file_bytes,
            max_bytes=self._max_pending_bytes,
            on_trouble=trouble,
        )
        sink = self._sink
        if sink is not None and not isinstance(sink, AudioSink):
            sink = sink(session)
        _Recorded(session, spool, sink).subscribe()

    def path_of(self, session: Session) -> Path | None:
        """Return the first file of a session's recording; None if it is not recorded."""
        return self._paths.get(session)


def _library() -> str:
    try:
        return f"realtime-bus {version('realtime-bus')}"
    except PackageNotFoundError:  # a checkout on the path
        return "realtime-bus"


_LIBRARY: Final = _library()


class _Recorded:
    """One session's recording."""

    def __init__(self, session: Session, spool: RecordingSpool, sink: AudioSink | None) -> None:
        self._session = session
        self._spool = spool
        self._sink = sink
        self._items: list[PlayedItem] = []  # what the sink said last
        self._said_us = 0  # when
        self._suspects = False  # that something was flushed, of which nobody has told yet

    def subscribe(self) -> None:
        session, spool = self._session, self._spool
        session.tap(received=spool.received, sent=spool.sent, aside=spool.aside, named=spool.named)
        session.on(ev.BusEvent)(self._told)
        if self._sink is not None:
            spool.look(self._look)
        session.on_close(self._ended)

    def _ended(self) -> None:
        close = self._session.close_info
        last = Ended(t_us=self._spool.now_us)
        if close is not None:
            last = msgspec.structs.replace(
                last, code=close.code, reason=close.reason, clean=close.clean
            )
        self._spool.close(last)

    # --- what the bus tells ------------------------------------------------------------------

    def _told(self, event: ev.BusEvent) -> None:
        now_us = self._spool.now_us
        if isinstance(event, ev.Closed) and self._sink is not None:
            self._note(now_us, self._positions())  # before it falls silent
        elif isinstance(event, PlaybackInterrupted):
            self._interrupted(event, now_us)
        fields = written_down(event)
        self._spool.write(
            Told(
                t_us=now_us,
                type=event.type,
                event=fields,
                application=isinstance(event, ev.AppEvent),
            )
        )

    # --- what is heard -----------------------------------------------------------------------

    def _look(self, now_s: float) -> float:
        """Note where playback stands; return when to look again."""
        items, now_us = self._positions(), self._spool.us(now_s)
        was_cut = _was_cut(self._items, items, self._since_ms(now_us))
        self._suspects = was_cut and not self._suspects
        if self._suspects:
            return now_s + _TOLD_S
        self._note(now_us, items)
        return now_s + LOOK_S

    def _since_ms(self, now_us: int) -> int:
        return (now_us - self._said_us) // 1000

    def _positions(self) -> list[PlayedItem]:
        assert self._sink is not None  # noqa: S101  # else nobody looks
        try:
            return self._sink.positions()
        except Exception:
            self._spool.look(lambda _now_s: float("inf"), after_s=float("inf"))
            raise

    def _note(self, now_us: int, items: list[PlayedItem]) -> None:
        before, since_ms = self._items, self._since_ms(now_us)
        self._items, self._said_us = items, now_us
        if _was_cut(before, items, since_ms):
            self._spool.write(Flushed(t_us=now_us, items=before, noticed=True))
        if items or before:
            self._spool.write(Played(t_us=now_us, items=items))

    def _interrupted(self, event: PlaybackInterrupted, now_us: int) -> None:
        items = [
            PlayedItem(
                item_id=item.item_id,
                content_index=item.content_index,
                played_ms=item.played_ms,
                written_ms=item.received_ms,
            )
            for item in event.items
        ]
        self._items, self._said_us = [], now_us
        self._spool.write(Flushed(t_us=now_us, items=items))
        if isinstance(self._sink, SettlingSink):
            self._session.start_soon(self._settle, self._sink)

    async def _settle(self, sink: SettlingSink) -> None:
        """Note what was learned later of what was heard."""
        with anyio.move_on_after(_SETTLE_S):
            items = await sink.settled()
            self._spool.write(Flushed(t_us=self._spool.now_us, items=items, settled=True))


def _was_cut(before: list[PlayedItem], after: list[PlayedItem], since_ms: int) -> bool:
    """Tell whether something is gone sooner than it can have been heard to its end."""
    rest_ms = 0
    for item in before:
        gone = not any(
            now.item_id == item.item_id
            and now.content_index == item.content_index
            and now.written_ms >= item.written_ms
            for now in after
        )
        if gone:  # what is still there need not have been over before it
            rest_ms += item.written_ms - item.played_ms
            if rest_ms > since_ms + _SLACK_MS:
                return True
    return False
