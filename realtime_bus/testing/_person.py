"""A person in a test: speaks, listens, speaks over the assistant, presses keys, hangs up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import anyio

from realtime_bus.errors import SessionClosed
from realtime_bus.server import Voice
from realtime_bus.session import Session
from realtime_bus_plugins._playback import ToSession
from realtime_bus_plugins.telephony import CallEnded, DtmfReceived

from ._ear import TICK_S, Ear, Utterance
from ._story import Note, Story
from ._voices import BYTES_PER_MS, Voices, speak

_PROBE_BYTES = 960
_KEY_S = 0.2
_ATTENTION_S = 3.0  # how long after a word silence is sent as often as speech: it ends a turn
_IDLE_S = 0.2
_PHASE_S = 0.0071
"""Between the beginning of a call and that of a person's sound: what both do at round times must
not meet, for who comes first then is left to chance on trio."""


class Sentence:
    """Something that the person said.

    Attributes:
        text: The words.
        began_s: When, on the call's clock.
        ended_s: When the last word was out; None if it is not yet.
    """

    def __init__(self, text: str, pcm: bytes, began_s: float) -> None:
        self.text = text
        self.began_s = began_s
        self.ended_s: float | None = None
        middle = len(pcm) // 4 * 2  # on a whole sample
        self.probe: bytes = pcm[middle : middle + _PROBE_BYTES]


class Person:
    """Speaks into a session as a microphone does: 20 ms at a time, and silence between words.

    Attributes:
        said: What the person said, in order.
    """

    def __init__(
        self,
        session: Session[Any],
        ear: Ear,
        story: Story,
        *,
        voices: Voices,
        voice: Voice,
    ) -> None:
        self._session = session
        self._ear = ear
        self._voices: Voices = voices
        self._voice = voice
        self._story = story
        self._now_s = story.now_s
        self._pcm, self._at = b"", 0
        self._quiet = anyio.Event()
        self._opens_mouth = anyio.Event()
        self._speaks = False
        self._quiet_since_s = 0.0
        self._mouth = anyio.Lock()
        self._listened = 0  # how many utterances have been listened to
        self.said: list[Sentence] = []

    def notes(self) -> Iterator[Note]:
        """Yield what was said, for the story."""
        return (Note(said.began_s, "person", f"“{said.text}”") for said in self.said)

    # speaking

    async def says(self, words: str, *, pcm: bytes | None = None) -> None:
        """Say something, in real time; return when the last word is out.

        Args:
            words: What.
            pcm: How it sounds, if not by the voice: PCM16 mono, 24 kHz.

        Raises:
            AssertionError: The call has ended.
        """
        __tracebackhide__ = True
        async with self._mouth:
            if pcm is None:
                async with aclosing(speak(words, self._voices, self._voice)) as pieces:
                    pcm = b"".join([piece.pcm async for piece in pieces])
            self._check_open(f"say {words!r}")
            said = Sentence(words, pcm, self._now_s())
            self.said.append(said)
            self._pcm, self._at, self._quiet = pcm, 0, anyio.Event()
            self._opens_mouth.set()
            await self._quiet.wait()
            self._check_open(f"end saying {words!r}")
            said.ended_s = self._now_s()

    async def interrupts(self, words: str, *, after_s: float = 1.0, within_s: float = 30.0) -> None:
        """Speak over the assistant; return when the last word is out.

        Args:
            words: What to say.
            after_s: How long the assistant is heard before. The utterance that counts is the one
                that is being heard, or else the next one.
            within_s: How long to wait for it.

        Raises:
            AssertionError: Nothing was heard, or it was over sooner, or the call has ended.
        """
        __tracebackhide__ = True
        heard = self._ear.heard
        behind = len(heard) - 1 if heard and heard[-1].ended_s is None else len(heard)
        utterance = await self._listens(lambda _: True, behind=behind, within_s=within_s)
        assert utterance.began_s is not None  # noqa: S101  # for type checkers: it was heard
        await anyio.sleep(max(0.0, utterance.began_s + after_s - self._now_s()))
        if utterance.ended_s is not None:
            raise self._story.error(
                f"the person was to interrupt after {after_s:g} s, but {utterance.text!r} was over "
                f"after {utterance.heard_ms / 1000:g} s"
            )
        await self.says(words)

    # listening

    async def hears(self, *, within_s: float = 30.0) -> str:
        """Listen until the assistant has said the next thing, or was cut off.

        What was said since this was last called counts, too: nothing is missed between.

        Args:
            within_s: How long to wait until it begins.

        Returns:
            What was heard, in whole words.

        Raises:
            AssertionError: Nothing was heard, or the call has ended.
        """
        __tracebackhide__ = True
        await self._listens(lambda _: True, behind=self._listened, within_s=within_s)
        utterance = await self._listens(
            lambda each: each.ended_s is not None, behind=self._listened
        )
        self._listened += 1
        return self._ear.words_of(utterance)

    async def _listens(
        self, ready: Callable[[Utterance], bool], *, behind: int, within_s: float | None = None
    ) -> Utterance:
        __tracebackhide__ = True
        try:
            with anyio.fail_after(within_s):
                return await self._ear.wait_for(ready, behind=behind)
        except TimeoutError:
            raise self._story.error(f"the person heard nothing within {within_s:g} s") from None
        except EOFError:
            raise self._story.error("the call ended while the person listened") from None

    async def keeps_silent(self, for_s: float) -> None:
        """Say nothing for a while."""
        await anyio.sleep(for_s)

    # the telephone

    async def presses(self, keys: str) -> None:
        """Press keys, one after the other: ``0`` to ``9``, ``*``, ``#``.

        Each is a `DtmfReceived`, as the telephony plugin emits it.
        """
        for key in keys:
            self._check_open(f"press {key}")
            self._story.note("person", f"presses {key}")
            self._session.emit(DtmfReceived(digit=key))
            await anyio.sleep(_KEY_S)

    async def hangs_up(self) -> None:
        """End the call, as the telephony plugin does when the caller is gone."""
        self._check_open("hang up")
        self._story.note("person", "hangs up")
        self._session.emit(CallEnded(reason="stopped"))
        await self._session.aclose()

    # how it works

    def _check_open(self, what: str) -> None:
        __tracebackhide__ = True
        if self._session.close_info is not None:
            raise self._story.error(f"the person cannot {what}: the call has ended")

    async def run(self) -> None:
        """Send what the person says, and silence, until the call has ended."""
        await anyio.sleep(_PHASE_S)
        began_s, sent_ms = self._now_s(), 0
        recoding = ToSession(self._session.settings.input_format)
        try:
            while self._session.close_info is None:
                await self._until_next()
                # what a microphone has recorded by now; speech that begins now comes next
                passed_ms = round((self._now_s() - began_s) * 1000) - sent_ms
                sent_ms += passed_ms
                if recoding.audio_format != self._session.settings.input_format:
                    recoding = ToSession(self._session.settings.input_format)
                pcm = self._voiced(passed_ms * BYTES_PER_MS)
                if pcm:
                    await self._session.append_audio(recoding.convert(pcm))
        except SessionClosed:
            pass
        finally:
            self._speaks = False
            self._quiet.set()

    async def _until_next(self) -> None:
        """Wait until there is something to send: often while it matters, else now and then.

        A word begins when it begins, and not at the next tick: else it would be left to chance,
        for much of what happens in a call happens at some tick.
        """
        if self._speaks:
            await anyio.sleep(TICK_S)
            return
        attentive = self._now_s() - self._quiet_since_s < _ATTENTION_S
        with anyio.move_on_after(TICK_S if attentive else _IDLE_S):
            await self._opens_mouth.wait()

    def _voiced(self, length_bytes: int) -> bytes:
        """Return the next audio: speech, if there is any left, and silence."""
        if self._opens_mouth.is_set():  # what was recorded until now is silence
            self._opens_mouth = anyio.Event()
            self._speaks = True
            return bytes(length_bytes)
        pcm = self._pcm[self._at : self._at + length_bytes]
        self._at += len(pcm)
        if self._speaks and self._at == len(self._pcm):
            self._speaks, self._quiet_since_s = False, self._now_s()
            self._quiet.set()
        return pcm.ljust(length_bytes, b"\0")

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Return what was said in a turn, from its audio; by its number where that cannot tell."""
        found = [said.text for said in self.said if said.probe and said.probe in audio]
        if found:
            return " ".join(found)
        return self.said[turn_index].text if turn_index < len(self.said) else None
