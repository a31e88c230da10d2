"""Both voices: what was sent of the person's, generated and heard of the assistant's.

Rules, beside those of ``_placing.py`` and ``_hearing.py``:

1. What the server says of positions in the input audio counts from the first byte that its
   connection was sent. Nothing is sent from the loss of one connection until the next takes over.
2. Speech silences if the sink is flushed within a quarter of a second, or if `Interruption` says
   so. Once that was seen, what is known when somebody begins to speak is dropped when it comes
   later, also where nothing played. A sink that is flushed because the session ends was cut off
   by nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from msgspec.structs import replace

from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, bytes_per_ms
from realtime_bus.recording._format import Flushed, Played

from ._frames import Formats, find, id_of, part_of, rate_hz, told_list
from ._hearing import Hearing, Part, PartKey
from ._moments import AssistantAudio, BargeIn, BufferMark, CutItem, PersonAudio, Piece, Speech
from ._peaks import Peaks
from ._placing import Sending, moment_of

_JUST_NOW_MS = 50.0  # between a flush and what is told of it
_CAUSED_MS = 250.0  # between speech and the silence that it caused


class _Speech:
    """Speech so far: what the server said of it, and where its connection's audio begins."""

    def __init__(self, event: ev.InputAudioBufferSpeechStarted, at_ms: float, base: float) -> None:
        self.item_id = event.item_id
        self.started_ms = at_ms
        self.base_ms = base
        self.audio_start_ms = event.audio_start_ms
        self.audio_end_ms: int | None = None
        self.stopped_ms: float | None = None
        self.silence_ms: int | None = None

    def placed(self, pieces: list[Piece]) -> Speech:
        """Return it with its places in time."""
        end, silence = self.audio_end_ms, self.silence_ms
        to_ms = None if end is None else moment_of(pieces, self.base_ms + end)
        return Speech(
            item_id=self.item_id,
            started_ms=self.started_ms,
            stopped_ms=self.stopped_ms,
            audio_start_ms=self.audio_start_ms,
            audio_end_ms=end,
            from_ms=moment_of(pieces, self.base_ms + self.audio_start_ms),
            to_ms=to_ms,
            voice_end_ms=None if to_ms is None or silence is None else to_ms - silence,
        )


class Voices:
    """Follow both voices.

    Args:
        peaks: Work out waveforms, too.

    Attributes:
        formats: Which audio formats are in force.
        hearing: What is heard.
        sending: What the person's side sends.
        marks: Where that was committed or cleared.
        barge_ins: Where the assistant was silenced.
    """

    def __init__(self, *, peaks: bool) -> None:
        self.formats = Formats()
        self.hearing = Hearing()
        self.sending = Sending()
        self.marks: list[BufferMark] = []
        self.barge_ins: list[BargeIn] = []
        self._peaks = Peaks() if peaks else None
        self._part_peaks: dict[PartKey, Peaks] = {}
        self._rate_hz = 0
        self._rates_hz: dict[PartKey, int] = {}
        self._base_ms = 0.0  # where in the stream this connection's audio begins
        self._speech: list[_Speech] = []
        self._open_speech: _Speech | None = None
        self._loud: list[str] = []  # responses that no interruption knew
        self._silence_ms: int | None = None  # that ends a turn
        self._flushed_ms: float | None = None  # when, as long as nobody has told why
        self._interrupts = False  # somebody silences the sink when speech begins
        self._closed = False

    # --- the person --------------------------------------------------------------------------

    def append(self, audio: bytes, left_out_bytes: int | None, at_ms: float) -> None:
        """Take audio that was sent."""
        length_ms = (len(audio) or left_out_bytes or 0) / bytes_per_ms(self.formats.input)
        if self._peaks is not None:
            self._peaks.add(audio, self.formats.input, length_ms)
        self._rate_hz = max(self._rate_hz, rate_hz(self.formats.input))
        self.sending.add(at_ms, length_ms)

    def _reconnecting(self, _told: dict[str, Any], _at_ms: float) -> None:
        self._base_ms = self.sending.length_ms

    def _reconnected(self, told: dict[str, Any], _at_ms: float) -> None:
        if told.get("cause") == "rollover":
            self._base_ms = self.sending.length_ms

    def _mark(self, kind: Any, at_ms: float, item_id: str | None = None) -> None:
        position = self.sending.length_ms
        self.marks.append(BufferMark(at_ms=at_ms, kind=kind, position_ms=position, item_id=item_id))

    def _committed(self, event: ev.InputAudioBufferCommitted, at_ms: float) -> None:
        self._mark("committed", at_ms, event.item_id)

    def _cleared(self, _event: object, at_ms: float) -> None:
        self._mark("cleared", at_ms)

    def _configured(self, event: Any, _at_ms: float) -> None:
        self.formats.configured(event.session)
        silence = find(event.session, "audio", "input", "turn_detection", "silence_duration_ms")
        self._silence_ms = silence if isinstance(silence, int) else None

    def _started(self, event: ev.InputAudioBufferSpeechStarted, at_ms: float) -> None:
        self._speech.append(_Speech(event, at_ms, self._base_ms))
        self._open_speech = self._speech[-1]
        if self._interrupts:
            self._silence_all()

    def _stopped(self, event: ev.InputAudioBufferSpeechStopped, at_ms: float) -> None:
        speech, self._open_speech = self._open_speech, None
        if speech is not None:
            speech.stopped_ms, speech.audio_end_ms = at_ms, event.audio_end_ms
            speech.silence_ms = self._silence_ms

    # --- the assistant -----------------------------------------------------------------------

    def audio(self, event: Any, left_out_bytes: int | None, at_ms: float) -> None:
        """Take audio that came."""
        audio, audio_format = event.delta, self.formats.of(event)
        length_ms = (len(audio) or left_out_bytes or 0) / bytes_per_ms(audio_format)
        key = part_of(event)
        self.hearing.received(at_ms, key, str(getattr(event, "response_id", "")), length_ms)
        self._rates_hz[key] = max(self._rates_hz.get(key, 0), rate_hz(audio_format))
        if self._peaks is not None:
            peaks = self._part_peaks.get(key)
            if peaks is None:
                peaks = self._part_peaks[key] = Peaks()
            peaks.add(audio, audio_format, length_ms)

    def _created(self, event: ev.ResponseCreated, _at_ms: float) -> None:
        self.formats.created(event.response)
        self._loud.append(id_of(event.response))

    def _silence_all(self) -> None:
        self.hearing.silence(self._loud)
        self._loud.clear()

    def played(self, line: Played, at_ms: float) -> None:
        """Take what the sink says."""
        self.hearing.played(at_ms, line.items)

    def flushed(self, line: Flushed, at_ms: float) -> None:
        """Take what the sink says of its silence."""
        if line.settled:
            for item in line.items:
                self.hearing.settled(item)
            return
        self._flushed_ms = at_ms
        self._silenced(line.items, at_ms, exact=not line.noticed)

    def _silenced(
        self,
        items: list[PlayedItem],
        at_ms: float,
        *,
        by_sink: bool = True,
        exact: bool = True,
    ) -> None:
        parts = self.hearing.parts
        cut = self.hearing.flushed(at_ms, items, by_sink=by_sink, exact=exact)
        if self._closed or not cut:
            return
        cuts = [
            CutItem(
                item_id=item.item_id,
                content_index=item.content_index,
                heard_ms=item.played_ms,
                generated_ms=float(item.written_ms) if part is None else part.generated_ms,
            )
            for item, part in ((item, parts.get(key_of(item))) for item in items)
        ]
        speech_ms = self._speech[-1].started_ms if self._speech else float("-inf")
        caused = at_ms - speech_ms <= _CAUSED_MS
        self.barge_ins.append(
            BargeIn(
                silent_ms=at_ms,
                speech_ms=speech_ms if caused else None,
                latency_ms=at_ms - speech_ms if caused else None,
                items=cuts,
            )
        )

    def _interrupted(self, told: dict[str, Any], at_ms: float) -> None:
        """Take what `Interruption` tells: the sink was flushed, and the rest will be dropped."""
        self._interrupts = True
        self._silence_all()
        flushed_ms, self._flushed_ms = self._flushed_ms, None
        if flushed_ms is None or at_ms - flushed_ms > _JUST_NOW_MS:
            items = [_played_item(item) for item in told_list(told, "items")]
            self._silenced([item for item in items if item is not None], at_ms)
        last = self.barge_ins[-1] if self.barge_ins else None
        if last is None or at_ms - last.silent_ms > _JUST_NOW_MS:
            return
        latency_s, by_speech = told.get("latency_s"), told.get("audio_start_ms") is not None
        if not by_speech:
            self.barge_ins[-1] = replace(last, speech_ms=None, latency_ms=None)
        elif isinstance(latency_s, int | float):
            speech_ms = self._speech[-1].started_ms if self._speech else None
            self.barge_ins[-1] = replace(last, speech_ms=speech_ms, latency_ms=latency_s * 1000)

    def _began(self, told: dict[str, Any], at_ms: float) -> None:
        """Take what `Interruption` tells: an item begins to be heard."""
        self._interrupts = True
        item_id = str(told.get("item_id"))
        self.hearing.played(at_ms, [PlayedItem(item_id=item_id, played_ms=0, written_ms=1)])

    def _truncate(self, event: ev.ConversationItemTruncate, at_ms: float) -> None:
        """Take what the client says was heard."""
        part = self.hearing.parts.get(PartKey(event.item_id, event.content_index))
        if part is None:
            return
        item = PlayedItem(
            item_id=event.item_id,
            content_index=event.content_index,
            played_ms=event.audio_end_ms,
            written_ms=int(part.generated_ms),
        )
        if self.hearing.known_from != "sink":
            self.hearing.silence([part.response_id])
            self._silenced([item], at_ms, by_sink=False)
        elif part.silenced_ms is not None:
            self.hearing.settled(item)

    def _buffer_cleared(self, _event: object, at_ms: float) -> None:
        self._silenced([], at_ms, by_sink=False)

    def closed(self, _told: dict[str, Any], at_ms: float) -> None:
        """Note that the session is over."""
        last = self.barge_ins[-1] if self.barge_ins else None
        if (
            last is not None
            and last.speech_ms is None
            and last.silent_ms == self._flushed_ms  # nobody has told why
            and at_ms - last.silent_ms <= _JUST_NOW_MS
        ):
            self.barge_ins.pop()
        self._closed = True

    # --- all of it ---------------------------------------------------------------------------

    def person(self, pieces: list[Piece]) -> PersonAudio:
        """Return the person's side, that lies so in time."""
        return PersonAudio(
            pieces=pieces,
            length_ms=self.sending.length_ms,
            chunks=len(self.sending),
            rate_hz=self._rate_hz,
            marks=self.marks,
            peaks=b"" if self._peaks is None else self._peaks.taken(),
        )

    def silences(self) -> list[BargeIn]:
        """Return where the assistant was silenced, with what was learned later of it."""
        return [
            replace(each, items=[self._up_to_date(item) for item in each.items])
            for each in self.barge_ins
        ]

    def _up_to_date(self, cut: CutItem) -> CutItem:
        part = self.hearing.parts.get(PartKey(cut.item_id, cut.content_index))
        return cut if part is None or part.told_ms is None else replace(cut, heard_ms=part.told_ms)

    def assistant(self) -> list[AssistantAudio]:
        """Return the assistant's side."""
        return [self._part(part) for part in self.hearing.parts.values()]

    def _part(self, part: Part) -> AssistantAudio:
        peaks = self._part_peaks.get(part.key)
        return AssistantAudio(
            item_id=part.key.item_id,
            content_index=part.key.content_index,
            response_id=part.response_id,
            deltas=part.deltas,
            heard=part.heard,
            generated_ms=part.generated_ms,
            heard_ms=part.heard_ms,
            silenced_ms=part.silenced_ms,
            rate_hz=self._rates_hz[part.key],
            peaks=b"" if peaks is None else peaks.taken(),
        )

    def speech(self, pieces: list[Piece]) -> list[Speech]:
        """Return what the turn detection heard of what lies so in time."""
        return [each.placed(pieces) for each in self._speech]

    RECEIVED: ClassVar[dict[type, Callable[[Voices, Any, float], None]]] = {
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
        ev.InputAudioBufferCommitted: _committed,
        ev.InputAudioBufferCleared: _cleared,
        ev.InputAudioBufferSpeechStarted: _started,
        ev.InputAudioBufferSpeechStopped: _stopped,
        ev.OutputAudioBufferCleared: _buffer_cleared,
        ev.ResponseCreated: _created,
    }
    """What each event from the server changes."""
    SENT: ClassVar[dict[type, Callable[[Voices, Any, float], None]]] = {
        ev.ConversationItemTruncate: _truncate,
    }
    """What each event from the client changes."""
    TOLD: ClassVar[dict[str, Callable[[Voices, dict[str, Any], float], None]]] = {
        "bus.playback_started": _began,
        "bus.playback_interrupted": _interrupted,
        "bus.reconnecting": _reconnecting,
        "bus.reconnected": _reconnected,
        "bus.closed": closed,
    }
    """What each event of the bus changes."""


def key_of(item: PlayedItem) -> PartKey:
    """Return which part a sink talks of."""
    return PartKey(item.item_id, item.content_index)


def _played_item(told: object) -> PlayedItem | None:
    """Return what `PlaybackInterrupted` tells of an item."""
    if not isinstance(told, dict):
        return None
    fields = cast("dict[str, Any]", told)
    try:
        return PlayedItem(
            item_id=str(fields["item_id"]),
            content_index=int(fields.get("content_index", 0)),
            played_ms=int(fields["played_ms"]),
            written_ms=int(fields["received_ms"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
