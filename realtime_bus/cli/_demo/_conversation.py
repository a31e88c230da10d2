"""The demo's conversation: what is said, who says it, and in which order.

A question, an answer, an interruption, and a short answer that is heard to its end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Iterable
from itertools import accumulate
from typing import NamedTuple, TypeVar

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from realtime_bus import RealtimeBusError, Session, SessionClosed
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink
from realtime_bus.server import Spoken
from realtime_bus_plugins.interruption import PlaybackInterrupted, PlaybackStarted

_E = TypeVar("_E")
_PATIENCE_S = 20.0
_PAUSE_S = 0.4
_CHUNK_MS = 20
_BYTES_PER_MS = 48  # PCM16, 24 kHz


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation of two turns, the second of which interrupts the first answer.

    Attributes:
        question: What the person asks first.
        answer: What the assistant says to that: too long to be heard out.
        interruption: What the person says into it.
        reply: What the assistant says to that; heard to its end.
        interrupt_after_s: How much of the answer is heard before the person speaks up.
    """

    question: str
    answer: str
    interruption: str
    reply: str
    interrupt_after_s: float


FULL = Lines(
    question="Hello. How do I cook a risotto for four people?",
    answer=(
        "With pleasure. First, warm one litre of stock in a small pot, and keep it hot. "
        "Then soften a chopped onion in butter, slowly, without any colour. "
        "Add the rice, and stir until every grain is shiny and hot. "
        "Pour in a glass of white wine, and let it boil away. "
        "Now add the stock, one ladle at a time, and keep stirring."
    ),
    interruption="Wait, sorry. How much rice do I need?",
    reply="Three hundred and twenty grams. That is eighty grams for each of you.",
    interrupt_after_s=3.0,
)

SHORT = Lines(
    question="Hello. How do I cook a risotto?",
    answer=(
        "With pleasure. First, warm one litre of stock in a small pot, and keep it hot. "
        "Then soften a chopped onion in butter, slowly, without any colour."
    ),
    interruption="Wait. How much rice?",
    reply="Three hundred grams.",
    interrupt_after_s=1.2,
)


class Utterance:
    """What somebody says in one go, and how far they have come.

    Attributes:
        pcm: PCM16 at 24 kHz.
    """

    def __init__(self, pieces: Iterable[Spoken] = ()) -> None:
        spoken = [piece for piece in pieces if piece.pcm]
        self.pcm: bytes = b"".join(piece.pcm for piece in spoken)
        self._texts = [piece.text for piece in spoken]
        self._ends = list(accumulate(len(piece.pcm) for piece in spoken))

    def words_until(self, at_bytes: int) -> str:
        """Return what has been said when so much of the sound is out, in whole words."""
        clause = bisect_right(self._ends, at_bytes)
        said = "".join(self._texts[:clause])
        if clause == len(self._ends):
            return said
        begin = self._ends[clause - 1] if clause else 0
        words = self._texts[clause].split(" ")
        share = (at_bytes - begin) / (self._ends[clause] - begin)
        return said + " ".join(words[: round(share * len(words))])


class Person:
    """Streams audio into a session in real time: silence, and what `say` was given.

    Args:
        session: The conversation.
        aloud: Where the person is heard in the room, too, if anywhere.

    Attributes:
        speaking: Whether there is speech in what is being sent.
        words: What has been said so far of what is being said, or was said last.
        said: Everything that was sent, PCM16 at 24 kHz.
        started_s: When its first sample was sent, on the session's clock.
        level: How loud the last chunk was, from 0 to 1.
        note: Nothing: nobody can mute this person.
    """

    note = ""

    def __init__(self, session: Session, *, aloud: AudioSink | None = None) -> None:
        self._session = session
        self._aloud = aloud
        self._utterance = Utterance()
        self._at_bytes = 0
        self._finished = anyio.Event()
        self.speaking = False
        self.said = bytearray()
        self.started_s = 0.0
        self.level = 0.0

    @property
    def words(self) -> str:
        return self._utterance.words_until(self._at_bytes)

    async def say(self, utterance: Utterance) -> None:
        """Speak, in real time, and return when the last word is out."""
        self._finished = anyio.Event()
        self._utterance, self._at_bytes = utterance, 0
        if self._aloud is not None:  # it plays in real time by itself
            self._aloud.write(utterance.pcm, item_id=f"person_{len(self.said)}")
        await self._finished.wait()

    async def run(self) -> None:
        """Stream until the session ends."""
        now_s = self._session.clock
        self.started_s = started_s = now_s()
        sent = 0
        try:
            while True:
                chunk = self._next_chunk()
                self.said += chunk
                await self._session.append_audio(chunk)
                sent += 1
                # paced against the start, so that lateness does not add up
                await anyio.sleep(max(0.0, started_s + sent * _CHUNK_MS / 1000 - now_s()))
        except SessionClosed:
            return

    def _next_chunk(self) -> bytes:
        length = _CHUNK_MS * _BYTES_PER_MS
        chunk = self._utterance.pcm[self._at_bytes : self._at_bytes + length]
        self._at_bytes += len(chunk)
        self.speaking, self.level = bool(chunk), _loudness(chunk)
        if self._at_bytes == len(self._utterance.pcm):
            self._finished.set()
        return chunk.ljust(length, b"\0")


def _loudness(chunk: bytes) -> float:
    """Return the peak of PCM16 audio, from 0 to 1."""
    if not chunk:
        return 0.0
    samples = memoryview(chunk).cast("h")
    return max(*samples, -min(samples)) / 32768


class DemoFailed(RealtimeBusError):  # noqa: N818  # it tells what happened, as the others do
    """The conversation did not get to its end; says what was waited for."""


class Speech(NamedTuple):
    """What the person says, synthesized."""

    question: Utterance
    interruption: Utterance


async def hold_conversation(
    session: Session, person: Person, sink: AudioSink, lines: Lines, speech: Speech
) -> None:
    """Play the person's part, in step with what the assistant does.

    Raises:
        DemoFailed: Something that should have happened did not, within 20 s.
    """
    await anyio.sleep(_PAUSE_S)  # a person breathes before speaking
    started = session.wait_for(PlaybackStarted)
    await person.say(speech.question)
    first = await _expect("the assistant to answer", started)

    await _listen(sink, lines.interrupt_after_s)
    interrupted = session.wait_for(PlaybackInterrupted)
    # the first response may be done at any moment, before the interruption or because of it
    answering = session.wait_for(
        PlaybackStarted, where=lambda event: event.response_id != first.response_id
    )
    answered = session.wait_for(
        ev.ResponseDone,
        where=lambda event: (
            event.response.id != first.response_id and event.response.status != "cancelled"
        ),
    )
    await person.say(speech.interruption)
    await _expect("the assistant to be interrupted", interrupted)
    await _expect("the assistant to answer again", answering)
    await _expect("the second answer to be complete", answered)
    await _hear_out(sink)


async def _expect(what: str, event: Awaitable[_E]) -> _E:
    try:
        with anyio.fail_after(_PATIENCE_S):
            return await event
    except TimeoutError:
        raise DemoFailed(f"waited {_PATIENCE_S:g} s for {what}, in vain") from None


async def _listen(sink: AudioSink, seconds: float) -> None:
    """Listen until so much of the answer has been heard, and cut in."""
    while (heard := sink.positions()) and heard[0].played_ms < seconds * 1000:  # noqa: ASYNC110  # time is the condition
        await anyio.sleep(max(seconds - heard[0].played_ms / 1000, 0.005))
    await checkpoint()


async def _hear_out(sink: AudioSink) -> None:
    """Listen to the end of what is playing."""
    while sink.playing:  # noqa: ASYNC110  # time is the condition
        await anyio.sleep(0.02)
    await anyio.sleep(_PAUSE_S)
