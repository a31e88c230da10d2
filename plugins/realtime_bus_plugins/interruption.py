"""Barge-in: when the person speaks, the assistant falls silent, and the server is told the truth.

::

    sink = WavSink("heard.wav")  # or Speaker(), or a sink of your own
    bus = Bus(plugins=[sink, Interruption(sink)])

The sink plays (a sink of ours is a plugin, and writes what arrives); `Interruption` only
silences it, and tells the server how much was heard. The rules are in ``_barge_in.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import anyio
import msgspec

from realtime_bus import Session, SessionClosed, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem, SessionSlot, SettlingSink

from ._barge_in import BargeIn
from ._playback import InterruptedItem, PlaybackInterrupted, PlaybackStarted

__all__ = ["InterruptedItem", "Interruption", "PlaybackInterrupted", "PlaybackStarted"]

_SETTLE_S = 2.0  # a far end that has not answered by then may be gone
_MAX_ANNOUNCED = 64  # items in the sink's queue whose beginning is waited for
_WAY = "bus.connect(..., plugins=[sink := NullSink(), Interruption(sink)])"


class Interruption:
    """Silence the sink when the person starts to speak, and correct the conversation.

    At ``input_audio_buffer.speech_started``, before any handler and before the next frame: the
    sink is flushed; what was partly heard is truncated at what was heard, what was queued and
    never heard is deleted; the response is cancelled where the server will not do it by itself
    (``interrupt_response`` false). Audio and audio transcripts of what was interrupted that
    arrive later reach no handler.

    Emits `PlaybackStarted` when an item is first heard (of up to 64 that are queued at once), and
    `PlaybackInterrupted` when something was cut off: the latter before any handler sees
    ``speech_started``, so that whoever hears of the speech can rely on the silence.

    Where the sink learns only later what had been heard (`SettlingSink`: it plays far away), the
    silence is as prompt, and truncations wait for that, at most two seconds and not beyond the
    next response: they never say less than `PlaybackInterrupted` did.

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
        self._slot = SessionSlot(self, _WAY)
        self._attached: _Attached | None = None

    def attach(self, session: Session) -> None:
        """Watch a session, one at a time, as the sink plays one.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        session.on_close(self._detach)
        session.busy_while(lambda: self._sink.playing)
        machine = BargeIn(session.conversation, margin_ms=self._margin_ms)
        self._attached = _Attached(session, self._sink, machine)
        self._attached.subscribe(on_speech_started=self._on_speech_started)

    def _detach(self) -> None:
        self._attached = None

    def interrupt(self, session: Session) -> PlaybackInterrupted | None:
        """Interrupt now: for a push-to-talk button, or a stop word. Works without any VAD.

        Does all that speech would do, and cancels the active response of the conversation, too.

        Returns:
            What was emitted, or None if nothing was playing or queued, or the session is over.

        Raises:
            UsageError: This plugin is not one of the session's.
        """
        if self._attached is not None and self._attached.session is session:
            return self._attached.interrupt(time.perf_counter(), server_cancels=False)
        if session.close_info is not None:
            return None
        raise UsageError(f"this Interruption is not attached to the session; write {_WAY}")


class _Attached:
    """One session's interruptions."""

    def __init__(self, session: Session, sink: AudioSink, machine: BargeIn) -> None:
        self.session = session
        self._sink = sink
        self._machine = machine
        self._unsettled: list[ev.ConversationItemTruncate] = []
        self._announcing = 0  # items that are waited for

    def subscribe(self, *, on_speech_started: bool) -> None:
        session = self.session
        session.intercept(ev.ResponseOutputAudioDelta, self._received, narrowed=True)
        session.intercept(ev.ResponseOutputAudioTranscriptDelta, self._transcribed, narrowed=True)
        session.on(ev.ResponseOutputAudioDelta, narrowed=True)(self._delivered)
        session.on(ev.ResponseOutputAudioDone, narrowed=True)(self._machine.ended)
        if on_speech_started:
            # an interceptor: not even an inline handler of the application comes before it
            session.intercept(ev.InputAudioBufferSpeechStarted, self._speech, narrowed=True)
        if isinstance(self._sink, SettlingSink):
            # the model must not answer before it knows: what is known by then has to do
            session.intercept(ev.InputAudioBufferSpeechStopped, self._settled_by_now)
            session.intercept_outgoing(ev.ResponseCreate, self._settled_by_now)

    # --- interrupting ------------------------------------------------------------------------

    def _speech(
        self, event: ev.InputAudioBufferSpeechStarted, session: Session
    ) -> ev.InputAudioBufferSpeechStarted:
        self.interrupt(
            session.frame_time_s,
            server_cancels=session.settings.server_interrupts,
            audio_start_ms=event.audio_start_ms,
        )
        return event

    def interrupt(
        self, since_s: float, *, server_cancels: bool, audio_start_ms: int | None = None
    ) -> PlaybackInterrupted | None:
        """Fall silent first; everything else can wait. What the sink raises, comes last."""
        self._machine.silence()
        failures: list[BaseException] = []
        played = self._flush(failures)
        latency_s = time.perf_counter() - since_s
        cut = self._machine.cut(played, server_cancels=server_cancels)
        for item in cut.items:
            self.session.note_heard(
                item.item_id,
                content_index=item.content_index,
                heard_ms=item.played_ms,
                generated_ms=item.received_ms,
            )
        self._send(self._due_now(cut.send), failures)
        happening = None
        if cut.items:
            happening = PlaybackInterrupted(
                items=cut.items, latency_s=latency_s, audio_start_ms=audio_start_ms
            )
            self.session.emit(happening)
        if failures:
            raise failures[0]
        return happening

    def _flush(self, failures: list[BaseException]) -> list[PlayedItem] | None:
        """Silence the sink; return what it has played, or None if it cannot say."""
        for ask in (self._sink.flush, self._sink.positions):
            try:
                return ask()
            except BaseException as error:  # noqa: BLE001 - whatever a sink raises, the rest goes on
                failures.append(error)
        return None

    def _send(self, events: Iterable[ev.ClientEvent], failures: list[BaseException]) -> None:
        """Send all that can be sent; an interceptor of the application may refuse some."""
        for event in events:
            try:
                self.session.send_nowait(event)
            except SessionClosed:
                return  # the session ended meanwhile: there is no conversation left to correct
            except Exception as error:  # noqa: BLE001 - an interceptor's: raised when all is done
                failures.append(error)

    # --- a sink that plays far away ----------------------------------------------------------

    def _due_now(self, events: list[ev.ClientEvent]) -> list[ev.ClientEvent]:
        """Return what need not wait for the sink to know what was heard; see to the rest."""
        if not isinstance(self._sink, SettlingSink):
            return events
        later = [event for event in events if isinstance(event, ev.ConversationItemTruncate)]
        if later:
            self._unsettled += later
            self.session.start_soon(self._settle, self._sink, later)
        return [event for event in events if event not in later]

    async def _settle(self, sink: SettlingSink, later: list[ev.ConversationItemTruncate]) -> None:
        """Truncate at what was heard, once it is known."""
        played: list[PlayedItem] = []
        try:
            with anyio.move_on_after(_SETTLE_S):
                played = await sink.settled()
        finally:
            heard = {(part.item_id, part.content_index): part for part in played}
            for event in [each for each in later if each in self._unsettled]:
                part = heard.get((event.item_id, event.content_index))
                end_ms = event.audio_end_ms
                if part is not None:
                    end_ms = max(end_ms, self._machine.end_ms(part))
                    self.session.note_heard(
                        part.item_id,
                        content_index=part.content_index,
                        heard_ms=end_ms,
                        generated_ms=self._machine.received_ms(part),
                    )
                self._truncate(event, end_ms)

    def _settled_by_now(self, event: ev.Event, session: Session) -> ev.Event:  # noqa: ARG002 - an interceptor is called with it
        for waiting in [*self._unsettled]:
            self._truncate(waiting, waiting.audio_end_ms)
        return event

    def _truncate(self, event: ev.ConversationItemTruncate, end_ms: int) -> None:
        self._unsettled.remove(event)
        failures: list[BaseException] = []
        self._send([msgspec.structs.replace(event, audio_end_ms=end_ms)], failures)
        if failures:
            self.session.start_soon(_fail, failures[0])

    # --- what comes --------------------------------------------------------------------------

    def _received(
        self, event: ev.ResponseOutputAudioDelta, session: Session
    ) -> ev.ResponseOutputAudioDelta | None:
        verdict = self._machine.received(event)
        failures: list[BaseException] = []
        self._send(verdict.send, failures)
        if failures:  # raised here, it would let the late audio pass
            session.start_soon(_fail, failures[0])
        return None if verdict.late else event

    def _transcribed(
        self,
        event: ev.ResponseOutputAudioTranscriptDelta,
        session: Session,  # noqa: ARG002 - an interceptor is called with it
    ) -> ev.ResponseOutputAudioTranscriptDelta | None:
        return None if self._machine.is_late(event.response_id) else event

    # --- when it is heard --------------------------------------------------------------------

    def _delivered(self, event: ev.ResponseOutputAudioDelta) -> None:
        if self._machine.delivered(event) and self._announcing < _MAX_ANNOUNCED:
            # one that is so short that it is over already, was heard
            over_s = self.session.clock()
            if (place := self._place(event.item_id)) is not None:
                over_s = place.over_s
            self._announcing += 1
            self.session.start_soon(self._announce_once, event, self._machine.generation, over_s)

    async def _announce_once(
        self, event: ev.ResponseOutputAudioDelta, generation: int, over_s: float
    ) -> None:
        try:
            await self._announce(event, generation, over_s)
        finally:
            self._announcing -= 1

    async def _announce(
        self, event: ev.ResponseOutputAudioDelta, generation: int, over_s: float
    ) -> None:
        """Emit `PlaybackStarted` once everything queued before the item has been played.

        An item that is gone sooner than it can have been heard to its end was flushed.
        """
        while (place := self._place(event.item_id)) is not None and place.ahead_ms > 0:
            over_s = place.over_s
            # at least a millisecond per part: positions are rounded down
            await anyio.sleep((place.ahead_ms + place.parts_ahead) / 1000)
        heard = place is not None or self.session.clock() >= over_s
        if heard and self._machine.generation == generation:
            self.session.emit(PlaybackStarted(item_id=event.item_id, response_id=event.response_id))

    def _place(self, item_id: str) -> _Place | None:
        """Return where an item stands in the queue, or None if it is not there (any more)."""
        now_s = self.session.clock()  # first: the thread may be interrupted before the sink tells
        ahead_ms = 0
        for parts_ahead, part in enumerate(self._sink.positions()):
            left_ms = part.written_ms - part.played_ms
            if part.item_id == item_id:
                # up to a millisecond before its place says: what was played is rounded down
                return _Place(ahead_ms, parts_ahead, now_s + (ahead_ms + left_ms - 1) / 1000)
            ahead_ms += left_ms
        return None


class _Place(NamedTuple):
    """Where an item stands in a sink's queue, and when it will be over at the earliest."""

    ahead_ms: int
    parts_ahead: int
    over_s: float


async def _fail(error: BaseException) -> None:
    raise error
