"""What the person hears of the assistant: utterance by utterance, cut where it was cut.

The rules
---------
1. An utterance is one item's answer. It begins when it is first heard, not when it is received.
2. It is over when all of it was heard, when `Interruption` cut it off, or when the call ended.
   Then it is known how much of it was heard, to the millisecond.
3. What was queued and never heard is no utterance.
4. A written answer is an utterance that takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio

from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, bytes_per_ms
from realtime_bus.session import Session
from realtime_bus_plugins.interruption import PlaybackInterrupted, PlaybackStarted

from ._model import ScriptedModel
from ._story import Note
from ._voices import heard_words

TICK_S = 0.02
_PHASE_S = 0.0033  # see `Person.run`


class Utterance:
    """Something that the assistant says.

    Attributes:
        item_id: The item of the conversation.
        response_id: The response that it is part of.
        text: All of its words, as far as they came.
        began_s: When it was first heard, on the call's clock; None if it was not yet.
        ended_s: When it was over; None if it is not yet.
        heard_ms: How much of it was heard.
        received_ms: How much of it came.
        cut: Whether it was cut off.
    """

    def __init__(self, item_id: str, response_id: str) -> None:
        self.item_id = item_id
        self.response_id = response_id
        self.text: str = ""
        self.began_s: float | None = None
        self.ended_s: float | None = None
        self.heard_ms: int = 0
        self.received_ms: float = 0.0
        self.cut: bool = False
        self.complete: bool = False  # no more of it will come

    def __repr__(self) -> str:
        return f"<Utterance {self.text!r} heard_ms={self.heard_ms} cut={self.cut}>"


class Ear:
    """Follows what a sink plays.

    Args:
        session: Whose answers.
        sink: What plays them.
        clock: The call's.
        model: What knows how long its words take.
    """

    def __init__(
        self,
        session: Session[Any],
        sink: AudioSink,
        *,
        clock: Callable[[], float],
        model: ScriptedModel | None,
    ) -> None:
        self._session = session
        self._sink = sink
        self._now_s = clock
        self._model = model
        self._all: dict[str, Utterance] = {}
        self._changed = anyio.Event()
        session.on(ev.ResponseOutputAudioDelta, narrowed=True)(self._received)
        session.on(ev.ResponseOutputAudioTranscriptDelta, narrowed=True)(self._words)
        session.on(ev.ResponseOutputAudioTranscriptDone, narrowed=True)(self._all_words)
        session.on(ev.ResponseOutputAudioDone, narrowed=True)(self._completed)
        session.on(ev.ResponseOutputTextDone, narrowed=True)(self._read)
        session.on(ev.ResponseDone, narrowed=True)(self._response_done)
        session.on(ev.Reconnecting)(self._lost)
        session.on(PlaybackStarted)(lambda event: self._began(event.item_id))
        session.on(PlaybackInterrupted)(self._interrupted)
        session.on(ev.Closed)(self._closed)

    @property
    def heard(self) -> list[Utterance]:
        """What was heard so far, in the order of hearing."""
        begun = [each for each in self._all.values() if each.began_s is not None]
        return sorted(begun, key=lambda each: each.began_s or 0.0)

    @property
    def busy(self) -> bool:
        """Whether something is being heard, or is to be."""
        return any(each.ended_s is None for each in self._all.values())

    def words_of(self, utterance: Utterance) -> str:
        """Return what was heard of an utterance so far, in whole words."""
        if utterance.ended_s is not None and not utterance.cut:
            return utterance.text.strip()
        heard_ms = utterance.heard_ms
        if utterance.ended_s is None:
            parts = self._sink.positions()
            heard_ms = sum(p.played_ms for p in parts if p.item_id == utterance.item_id)
        found = self._model.heard_of(utterance.text, heard_ms) if self._model else None
        if found is None:
            found = heard_words([(utterance.text, utterance.received_ms or 1.0)], heard_ms)
        return found

    def notes(self) -> Iterator[Note]:
        """Yield what was heard, for the story."""
        for utterance in self.heard:
            words = self.words_of(utterance)
            what = f"“{words}”"
            if utterance.ended_s is None:
                what = f"“{utterance.text}” (not over yet)"
            elif utterance.cut:
                what += f" cut after {utterance.heard_ms} ms"
                if rest := utterance.text.strip().removeprefix(words).strip():
                    what += f"; not heard: “{rest}”"
            yield Note(utterance.began_s or 0.0, "assistant", what)

    async def wait_for(self, ready: Callable[[Utterance], bool], *, behind: int) -> Utterance:
        """Wait until an utterance is as far as this; of those heard, the one behind so many."""
        while len(self.heard) <= behind or not ready(self.heard[behind]):
            if self._session.close_info is not None:
                raise EOFError
            await self._changed.wait()
        return self.heard[behind]

    async def run(self) -> None:
        """Follow the sink until the session has ended."""
        await anyio.sleep(_PHASE_S)
        while self._session.close_info is None:
            if not self.busy:
                await self._changed.wait()
            self._look()
            await anyio.sleep(TICK_S)

    # what comes

    def _of(self, item_id: str, response_id: str) -> Utterance:
        return self._all.setdefault(item_id, Utterance(item_id, response_id))

    def _received(self, event: ev.ResponseOutputAudioDelta) -> None:
        utterance = self._of(event.item_id, event.response_id)
        if not utterance.received_ms:
            self._tell()
        audio_format = self._session.conversation.audio_format_of(event.response_id)
        utterance.received_ms += len(event.delta) / bytes_per_ms(audio_format)

    def _words(self, event: ev.ResponseOutputAudioTranscriptDelta) -> None:
        self._of(event.item_id, event.response_id).text += event.delta

    def _all_words(self, event: ev.ResponseOutputAudioTranscriptDone) -> None:
        self._of(event.item_id, event.response_id).text = event.transcript

    def _completed(self, event: ev.ResponseOutputAudioDone) -> None:
        self._of(event.item_id, event.response_id).complete = True

    def _read(self, event: ev.ResponseOutputTextDone) -> None:
        utterance = self._of(event.item_id, event.response_id)
        utterance.text, utterance.complete = event.text, True
        self._began(event.item_id)
        self._ended(utterance)

    def _response_done(self, event: ev.ResponseDone) -> None:
        for utterance in self._all.values():
            utterance.complete |= utterance.response_id == event.response.id

    def _lost(self, _event: ev.Reconnecting) -> None:
        for utterance in self._all.values():
            utterance.complete = True

    # what is heard

    def _look(self) -> None:
        """See what the sink has begun and ended to play."""
        parts = {part.item_id: part for part in self._sink.positions()}
        for utterance in self._all.values():
            part = parts.get(utterance.item_id)
            if utterance.ended_s is not None or (part is not None and part.played_ms == 0):
                continue
            if utterance.began_s is None and utterance.received_ms:
                self._began(utterance.item_id)
            if part is None and utterance.complete:
                utterance.heard_ms = int(utterance.received_ms)
                self._ended(utterance)

    def _began(self, item_id: str) -> None:
        utterance = self._all.get(item_id)
        if utterance is not None and utterance.began_s is None and utterance.ended_s is None:
            utterance.began_s = self._now_s()
            self._tell()

    def _interrupted(self, event: PlaybackInterrupted) -> None:
        for item in event.items:
            self._cut(item.item_id, item.played_ms, item.discarded_ms > 0)

    def _closed(self, _event: ev.Closed) -> None:
        for part in self._sink.positions():
            self._cut(part.item_id, part.played_ms, part.played_ms < part.written_ms)
        self._look()
        self._tell()

    def _cut(self, item_id: str, heard_ms: int, cut: bool) -> None:
        utterance = self._all.get(item_id)
        if utterance is None or utterance.ended_s is not None:
            return
        utterance.heard_ms, utterance.cut = heard_ms, cut or not utterance.complete
        if heard_ms:
            self._began(item_id)
        self._ended(utterance)

    def _ended(self, utterance: Utterance) -> None:
        utterance.ended_s = self._now_s()
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
