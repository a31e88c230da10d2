"""A sink that hears what was heard then: no device is opened in a replay.

Rules:

1. It plays by the recording's clock what it is given, as any sink does (`AudioSink`).
2. A flush that was recorded counts, with what was heard then, for the one that comes now: within
   `_NEAR_US`, and not before all that it silenced then was written now. Each counts once.
3. What the recording's sink said of its positions is believed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from realtime_bus.audio import AudioSession, PlayedItem, SessionSlot, feed_sink
from realtime_bus.audio._formats import bytes_per_ms
from realtime_bus.events import AudioFormat, AudioPCM
from realtime_bus.recording._format import Flushed, Played

_NEAR_US: Final = 1_000_000


class _Part:
    """One content part of an item, in microseconds of audio."""

    __slots__ = ("content_index", "item_id", "played_us", "written_us")

    def __init__(self, item_id: str, content_index: int) -> None:
        self.item_id = item_id
        self.content_index = content_index
        self.played_us = 0.0
        self.written_us = 0.0

    @property
    def left_us(self) -> float:
        """How long it will still play."""
        return self.written_us - self.played_us

    def told(self) -> PlayedItem:
        """Return what a sink says of it."""
        return PlayedItem(
            item_id=self.item_id,
            content_index=self.content_index,
            played_ms=int(self.played_us / 1000 + 1e-6),
            written_ms=int(self.written_us / 1000 + 1e-6),
        )


class ReplaySink:
    """A sink and plugin for a bus that is replayed; see `replay`.

    ::

        def make_bus(sink: AudioSink) -> Bus:
            return Bus(plugins=[sink, Interruption(sink), tools])


        report = await replay("call.jsonl", make_bus)

    Args:
        flushes: Where the recording's sink was silenced.
        now_us: The recording's clock.
    """

    def __init__(self, flushes: Iterable[Flushed], now_us: Callable[[], int]) -> None:
        self._flushes = list(flushes)
        self._now_us = now_us
        self._parts: dict[tuple[str, int], _Part] = {}
        self._queue: deque[_Part] = deque()
        self._seen_us = 0
        self._bytes_per_ms = bytes_per_ms(AudioPCM())
        self._slot = SessionSlot(self, "replay(recording, lambda sink: Bus(plugins=[sink, ...]))")

    def attach(self, session: AudioSession) -> None:
        """Play a session's output audio.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        feed_sink(session, self)

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of what is written next."""
        self._bytes_per_ms = bytes_per_ms(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item."""
        self._go_on()
        part = self._parts.setdefault((item_id, content_index), _Part(item_id, content_index))
        part.written_us += len(audio) * 1000 / self._bytes_per_ms
        if audio and part not in self._queue:
            self._queue.append(part)

    def flush(self) -> list[PlayedItem]:
        """Fall silent, and return what was heard then."""
        played = self.positions()
        found = self._recorded()
        if found is not None:
            self._flushes.remove(found)
            played = found.items
        self._queue.clear()
        self._parts.clear()
        return played

    def positions(self) -> list[PlayedItem]:
        """Return what is playing or queued, and how much of it was heard."""
        self._go_on()
        return [part.told() for part in self._queue]

    @property
    def playing(self) -> bool:
        """Whether something plays by the recording's clock."""
        self._go_on()
        return bool(self._queue)

    def note(self, line: Played) -> None:
        """Take what the recording's sink said of its positions at this moment."""
        self._go_on()
        said = {(item.item_id, item.content_index): item for item in line.items}
        for part in [*self._queue]:
            item = said.get((part.item_id, part.content_index))
            part.played_us = part.written_us if item is None else item.played_ms * 1000.0
            if part.left_us <= 0:
                self._queue.remove(part)

    def _recorded(self) -> Flushed | None:
        now_us = self._now_us()
        near = [
            each
            for each in self._flushes
            if abs(each.t_us - now_us) <= _NEAR_US
            and all((item.item_id, item.content_index) in self._parts for item in each.items)
        ]
        return min(near, key=lambda each: abs(each.t_us - now_us), default=None)

    def _go_on(self) -> None:
        """Play what is queued until now."""
        now_us = self._now_us()
        passed_us: float = now_us - self._seen_us
        self._seen_us = now_us
        while self._queue and passed_us > 0:
            part = self._queue[0]
            step_us = min(part.left_us, passed_us)
            part.played_us += step_us
            passed_us -= step_us
            if part.left_us <= 0:
                self._queue.popleft()
