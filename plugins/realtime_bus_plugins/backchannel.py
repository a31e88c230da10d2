"""Backchannels: a listener's "mhm", a laugh or a cough is no interruption, and is not answered.

::

    sink = WavSink("heard.wav")  # or Speaker(), or a sink of your own
    bus = Bus(plugins=[Backchannel(sink), sink, Interruption(sink)])  # before Interruption
    vad = ev.ServerVad(
        silence_duration_ms=500, interrupt_response=False, create_response=False
    )  # the server must leave it to us
    async with bus.connect(model, turn_detection=vad, transcription=...) as session:
        ...

The rules
---------
1. The assistant has the floor while its audio plays, or a response of the conversation is being
   made. Speech that starts at any other time is a turn, and passes at once.
2. Speech under the assistant's is held: ``speech_started`` stays here, and its ``speech_stopped``.
   Nobody behind this plugin hears of either, the sink plays on, and nothing is truncated.
3. It was meant for the assistant, and goes on to those behind, who interrupt, as soon as
   a. there is sound still or again when `hold_ms` have passed: so long a real interruption is
      delayed at most, unless the person pauses at that very moment; then until they go on.
      Sound is what this session sends; where it sends none (somebody else streams the audio),
      it is speech that the server has not seen stop; or
   b. its transcript has a word that is no backchannel; or
   c. the assistant has lost the floor: what is said in silence is a turn.
4. It was a backchannel if it has stopped and 3 has not come true: at once where nothing is
   transcribed, else when its transcript is complete, or has failed, or has not come `words_ms`
   after the stop. Then both events are dropped, and `BackchannelHeard` tells of it.
5. A turn that is over is answered (``response.create``) if the server does not do it by itself.
   The item of a backchannel whose words are known is deleted: the model need not answer it later.
   One whose words are not known stays in the conversation, unanswered.
6. An ``interrupt_response`` that is not false leaves nothing to judge: the server has ended its
   response already. Everything passes, and a `UsageError` is reported, once. With
   ``create_response`` the server answers a backchannel by itself; that is reported as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Protocol

import anyio

from realtime_bus import Session, SessionClosed, UsageError
from realtime_bus import events as ev

from ._backchannel import Loudness, Words
from ._backchannel_words import BACKCHANNELS

__all__ = ["BACKCHANNELS", "Backchannel", "BackchannelHeard"]

_LOOK_S = 0.02
_GAP_MS = 40
"""Who is silent for longer has paused; who closed the mouth for a p, t or k sounds soon again."""
_MOST_OPEN = 32


class BackchannelHeard(ev.BusEvent, frozen=True, kw_only=True, tag="bus.backchannel_heard"):
    """Somebody made a sound while the assistant spoke, and did not want to interrupt.

    Attributes:
        item_id: The item that the server made of it.
        transcript: What was said, if that was known; empty for a cough.
        audio_start_ms: Where in the input audio it began, padding included.
        audio_end_ms: Where it ended, the silence after it included; None if it was committed by
            hand.
    """

    item_id: str
    transcript: str | None = None
    audio_start_ms: int
    audio_end_ms: int | None = None


class Plays(Protocol):
    """What is asked of a sink: any `AudioSink` has it."""

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        ...


class Backchannel:
    """Let the assistant speak on while the person listens aloud; see this module's rules.

    Needs ``interrupt_response`` and ``create_response`` set to false in the turn detection, and
    stands before `Interruption`. With ``transcription`` a short word that is no backchannel
    ("Stop!") interrupts once it is written down; without, only what lasts longer than `hold_ms`.

    Args:
        sink: What plays the session's audio.
        hold_ms: How long speech is held back, from the arrival of ``speech_started``: what a real
            interruption is delayed by, and about how long a backchannel may last. 600 ms are
            enough for "mm-hm"; a laugh may take 1000.
        words_ms: How long to wait for the transcript after the end of a short sound.
        words: What counts as backchannels; by default all of `BACKCHANNELS`.
        forget: Whether to delete the items of backchannels from the conversation.

    Raises:
        UsageError: A length of time is below 0.
    """

    def __init__(
        self,
        sink: Plays,
        *,
        hold_ms: int = 600,
        words_ms: int = 1500,
        words: Iterable[str] | None = None,
        forget: bool = True,
    ) -> None:
        if hold_ms < 0 or words_ms < 0:
            raise UsageError(f"hold_ms={hold_ms} and words_ms={words_ms} must not be below 0")
        self.sink: Plays = sink
        self.hold_s: float = hold_ms / 1000
        self.words_s: float = words_ms / 1000
        self.words: Words = Words(
            chain.from_iterable(BACKCHANNELS.values()) if words is None else words
        )
        self.forget: bool = forget

    def attach(self, session: Session) -> None:
        """Listen to a session. Called by the bus."""
        _Attached(session, self).subscribe()


class _Speech:
    """One stretch of speech, from its start to its verdict."""

    def __init__(self, started: ev.InputAudioBufferSpeechStarted) -> None:
        self.started = started
        self.stopped: ev.InputAudioBufferSpeechStopped | None = None
        self.committed = False
        self.meant: bool | None = None  # not decided yet
        self.transcript = ""  # as far as it is written down
        self.words: str | None = None  # all of it
        self.patient_until_s = 0.0


class _Attached:
    """One session's speech."""

    def __init__(self, session: Session, options: Backchannel) -> None:
        self._session = session
        self._options = options
        self._loudness = Loudness()
        self._speech: dict[str, _Speech] = {}  # by item, the latest last
        self._reported: set[str] = set()

    def subscribe(self) -> None:
        self._session.intercept(ev.InputAudioBufferSpeechStarted, self._started, narrowed=True)
        self._session.intercept(ev.InputAudioBufferSpeechStopped, self._stopped, narrowed=True)
        self._session.intercept_outgoing(ev.InputAudioBufferAppend, self._sent)
        for kind, handler in self._HANDLERS.items():
            self._session.on(kind, narrowed=True)(partial(handler, self))

    @property
    def _has_floor(self) -> bool:
        generating = self._session.conversation.active_response_id is not None
        return self._options.sink.playing or generating

    # --- speech, as the server hears it ------------------------------------------------------

    def _started(
        self, event: ev.InputAudioBufferSpeechStarted, session: Session
    ) -> ev.InputAudioBufferSpeechStarted | None:
        while len(self._speech) >= _MOST_OPEN:
            del self._speech[next(iter(self._speech))]
        speech = self._speech[event.item_id] = _Speech(event)
        if not (self._has_floor and self._is_ours_to_judge()):
            speech.meant = True
            return event
        session.start_soon(self._listen, speech)
        return None

    def _stopped(
        self,
        event: ev.InputAudioBufferSpeechStopped,
        session: Session,
    ) -> ev.InputAudioBufferSpeechStopped | None:
        speech = self._speech.get(event.item_id)
        if speech is None:
            return event
        speech.stopped = event
        if speech.meant:
            return event
        speech.patient_until_s = anyio.current_time() + self._options.words_s
        if session.settings.transcription_model is None or not self._has_floor:
            self._judge_by_length(speech)
        return None

    async def _listen(self, speech: _Speech) -> None:
        """Wait for the verdict that time brings, if no event brings it before."""
        await anyio.sleep(self._options.hold_s)
        while speech.meant is None and speech.stopped is None:
            if self._sounds() or not self._has_floor:
                self._was_meant(speech)
            else:
                await anyio.sleep(_LOOK_S)
        if speech.meant is None:
            await anyio.sleep_until(speech.patient_until_s)
        self._judge_by_length(speech)

    def _sounds(self) -> bool:
        quiet_ms = self._loudness.quiet_ms
        return quiet_ms is None or quiet_ms < _GAP_MS

    def _sent(
        self, event: ev.InputAudioBufferAppend, session: Session
    ) -> ev.InputAudioBufferAppend:
        self._loudness.add(event.audio, session.settings.input_format)
        return event

    # --- what becomes of it ------------------------------------------------------------------

    def _committed(self, event: ev.InputAudioBufferCommitted) -> None:
        speech = self._speech.get(event.item_id)
        if speech is not None:
            speech.committed = True
            self._settle(speech)

    def _words(self, event: ev.ConversationItemInputAudioTranscriptionDelta) -> None:
        speech = self._speech.get(event.item_id)
        if speech is not None and speech.meant is None:
            speech.transcript += event.delta
            if not self._options.words.cover(speech.transcript, complete=False):
                self._was_meant(speech)

    def _transcribed(self, event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
        speech = self._speech.get(event.item_id)
        if speech is None or speech.meant is not None:
            return
        if self._options.words.cover(event.transcript) and self._has_floor:
            self._was_none(speech, transcript=event.transcript)
        else:
            self._was_meant(speech)

    def _untranscribed(self, event: ev.ConversationItemInputAudioTranscriptionFailed) -> None:
        speech = self._speech.get(event.item_id)
        if speech is not None:
            self._judge_by_length(speech)

    def _forgotten(self, _event: ev.InputAudioBufferCleared | ev.Reconnecting) -> None:
        for speech in [*self._speech.values()]:
            if not speech.committed and speech.meant is None:
                speech.meant = False  # no item will come of it
                del self._speech[speech.started.item_id]

    _HANDLERS: ClassVar[dict[type[ev.Event], Any]] = {
        ev.InputAudioBufferCommitted: _committed,
        ev.ConversationItemInputAudioTranscriptionDelta: _words,
        ev.ConversationItemInputAudioTranscriptionCompleted: _transcribed,
        ev.ConversationItemInputAudioTranscriptionFailed: _untranscribed,
        ev.InputAudioBufferCleared: _forgotten,
        ev.Reconnecting: _forgotten,
    }

    # --- verdicts ----------------------------------------------------------------------------

    def _judge_by_length(self, speech: _Speech) -> None:
        """Decide about what was short, and of which no words are known."""
        if speech.meant is not None:
            return
        if self._has_floor:
            self._was_none(speech, transcript=None)
        else:
            self._was_meant(speech)

    def _was_meant(self, speech: _Speech) -> None:
        speech.meant = True
        self._session.inject(speech.started)
        if speech.stopped is not None:
            self._session.inject(speech.stopped)
        self._settle(speech)

    def _was_none(self, speech: _Speech, *, transcript: str | None) -> None:
        speech.meant, speech.words = False, transcript
        self._session.emit(
            BackchannelHeard(
                item_id=speech.started.item_id,
                transcript=transcript,
                audio_start_ms=speech.started.audio_start_ms,
                audio_end_ms=speech.stopped.audio_end_ms if speech.stopped else None,
            )
        )
        self._settle(speech)

    def _settle(self, speech: _Speech) -> None:
        """Do what is left to do when there is a verdict and an item."""
        item_id = speech.started.item_id
        if speech.meant is None or not speech.committed or item_id not in self._speech:
            return
        del self._speech[item_id]
        settings = self._session.settings
        with suppress(SessionClosed):
            if speech.meant:
                has_model = settings.kind not in {"transcription", "translation"}
                by_hand = speech.stopped is None
                if has_model and not by_hand and not settings.server_responds:
                    self._session.respond()
            elif speech.words is not None and self._options.forget and item_id:
                self._session.send_nowait(ev.ConversationItemDelete(item_id=item_id))

    # --- what it takes -----------------------------------------------------------------------

    def _is_ours_to_judge(self) -> bool:
        """Tell whether the server leaves it to us; report once what it should not do itself."""
        settings = self._session.settings
        for name, by_server in (
            ("interrupt_response", settings.server_interrupts),
            ("create_response", settings.server_responds),
        ):
            if by_server and name not in self._reported:
                self._reported.add(name)
                self._session.start_soon(_fail, UsageError(_TOLD[name]))
        return not settings.server_interrupts


_TOLD = {
    "interrupt_response": "Backchannel has nothing to judge: the server ends its response at every "
    "sound; set turn_detection=ServerVad(interrupt_response=False, create_response=False)",
    "create_response": "the server answers every backchannel by itself; set "
    "turn_detection=ServerVad(interrupt_response=False, create_response=False)",
}


async def _fail(error: UsageError) -> None:
    raise error
