"""Barge-in: when the person speaks, the assistant falls silent, and the server is told the truth.

::

    sink = WavSink("heard.wav")  # or Speaker(), or a sink of your own
    bus = Bus(plugins=[sink, Interruption(sink)])

The sink plays (a sink of ours is a plugin, and writes what arrives); `Interruption` only
silences it, and tells the server how much was heard. The rules are in ``_barge_in/_decisions.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import anyio

from realtime_bus import RegistrationError, Session, SessionClosed
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink

from ._barge_in import SEEN, BargeIn
from ._playback import InterruptedItem, PlaybackInterrupted, PlaybackStarted, output_format

__all__ = ["InterruptedItem", "Interruption", "PlaybackInterrupted", "PlaybackStarted"]


class Interruption:
    """Silence the sink when the person starts to speak, and correct the conversation.

    At ``input_audio_buffer.speech_started``, before any handler and before the next frame: the
    sink is flushed; what was partly heard is truncated at what was heard, what was queued and
    never heard is deleted; the response is cancelled where the server will not do it by itself
    (``interrupt_response`` false). Audio and audio transcripts of what was interrupted that
    arrive later reach no handler.

    Emits `PlaybackStarted` when an item is first heard, and `PlaybackInterrupted` when something
    was cut off: the latter before any handler sees ``speech_started``, so that whoever hears of
    the speech can rely on the silence.

    A plugin that judges whether speech was meant for the assistant, and drops the event
    otherwise, belongs before this one.

    Args:
        sink: What plays the session's audio. One sink plays one session at a time.
        on_speech_started: Whether speech interrupts; if not, only `interrupt` does.
        margin_ms: Truncate at least so far before the end of what was received, for servers
            that count an item's audio shorter than they sent it.
    """

    def __init__(
        self, sink: AudioSink, *, on_speech_started: bool = True, margin_ms: int = 0
    ) -> None:
        self._sink = sink
        self._on_speech_started = on_speech_started
        self._margin_ms = margin_ms
        self._attached: dict[int, _Attached] = {}

    def attach(self, session: Session) -> None:
        """Watch a session. Called by the bus."""
        attached = _Attached(session, self._sink, BargeIn(margin_ms=self._margin_ms))
        self._attached[id(session)] = attached
        session.on_close(lambda: self._attached.pop(id(session), None))
        attached.subscribe(on_speech_started=self._on_speech_started)

    def interrupt(self, session: Session) -> PlaybackInterrupted | None:
        """Interrupt now: for a push-to-talk button, or a stop word. Works without any VAD.

        Does all that speech would do, and cancels the active response of the conversation, too.

        Returns:
            What was emitted, or None if nothing was playing or queued, or the session is over.

        Raises:
            RegistrationError: This plugin is not one of the session's bus.
        """
        attached = self._attached.get(id(session))
        if attached is not None:
            return attached.interrupt_by_hand()
        if session.close_info is not None:
            return None
        raise RegistrationError(
            "this Interruption is not attached to the session; "
            "give it to the bus: Bus(plugins=[sink, Interruption(sink)])"
        )


class _Attached:
    """One session's interruptions."""

    def __init__(self, session: Session, sink: AudioSink, machine: BargeIn) -> None:
        self._session = session
        self._sink = sink
        self._machine = machine

    def subscribe(self, *, on_speech_started: bool) -> None:
        session = self._session
        session.on(ev.SessionCreated, ev.SessionUpdated)(self._configured)
        session.on(*SEEN)(self._machine.see)
        session.intercept(ev.ResponseOutputAudioDelta, self._audio)
        session.intercept(ev.ResponseOutputAudioTranscriptDelta, self._transcript)
        if on_speech_started:
            # an interceptor: not even an inline handler of the application comes before it
            session.intercept(ev.InputAudioBufferSpeechStarted, self._speech)

    def interrupt_by_hand(self) -> PlaybackInterrupted | None:
        return self._interrupt(time.perf_counter(), server_cancels=False)

    def _configured(self, event: ev.SessionCreated | ev.SessionUpdated) -> None:
        self._machine.audio_format = output_format(event.session)

    def _speech(
        self, event: ev.InputAudioBufferSpeechStarted, session: Session
    ) -> ev.InputAudioBufferSpeechStarted:
        self._interrupt(
            session.frame_time_s,
            server_cancels=_server_cancels(session.config),
            audio_start_ms=event.audio_start_ms,
        )
        return event

    def _interrupt(
        self, since_s: float, *, server_cancels: bool, audio_start_ms: int | None = None
    ) -> PlaybackInterrupted | None:
        """Fall silent first; everything else can wait."""
        played = self._sink.flush()
        latency_s = time.perf_counter() - since_s
        cut = self._machine.interrupt(played, server_cancels=server_cancels)
        self._send(cut.send)
        if not cut.items:
            return None
        happening = PlaybackInterrupted(
            items=cut.items, latency_s=latency_s, audio_start_ms=audio_start_ms
        )
        self._session.emit(happening)
        return happening

    def _send(self, events: Iterable[ev.ClientEvent]) -> None:
        try:
            for event in events:
                self._session.send_nowait(event)
        except SessionClosed:
            pass  # the session ended meanwhile: there is no conversation left to correct

    def _audio(
        self, event: ev.ResponseOutputAudioDelta, session: Session
    ) -> ev.ResponseOutputAudioDelta | None:
        verdict = self._machine.audio(event)
        self._send(verdict.send)
        if verdict.first:
            session.start_soon(self._announce, event, self._machine.ledger.generation)
        return None if verdict.late else event

    def _transcript(
        self,
        event: ev.ResponseOutputAudioTranscriptDelta,
        session: Session,  # noqa: ARG002 - an interceptor is called with it
    ) -> ev.ResponseOutputAudioTranscriptDelta | None:
        return None if self._machine.is_late(event.response_id) else event

    async def _announce(self, event: ev.ResponseOutputAudioDelta, generation: int) -> None:
        """Emit `PlaybackStarted` once everything queued before the item has been played."""
        while (ahead_ms := self._ahead_ms(event.item_id)) > 0:  # noqa: ASYNC110 - time is the condition
            await anyio.sleep(ahead_ms / 1000)
        if self._machine.ledger.generation == generation:
            self._session.emit(
                PlaybackStarted(item_id=event.item_id, response_id=event.response_id)
            )

    def _ahead_ms(self, item_id: str) -> int:
        """Return how long until an item is heard: 0 if it is heard, or not there any more."""
        ahead_ms = 0
        for part in self._sink.positions():
            if part.item_id == item_id:
                # at least a millisecond per part: positions are rounded down
                return ahead_ms
            ahead_ms += part.written_ms - part.played_ms + 1
        return 0


def _server_cancels(config: object) -> bool:
    """Tell whether the server cancels its response by itself when it hears speech.

    It does unless turn detection says otherwise: `interrupt_response` is true by default.
    """
    # getattr: the echo is decoded leniently, so any part of it may be missing or raw data
    source = getattr(getattr(config, "audio", None), "input", None)
    detection = getattr(source, "turn_detection", None)
    if isinstance(detection, ev.UnknownObject):
        return detection.data.get("interrupt_response") is not False
    return getattr(detection, "interrupt_response", None) is not False
