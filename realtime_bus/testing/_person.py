"""A person in a test: speaks, listens, speaks over the assistant, presses keys, hangs up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio

from realtime_bus.errors import SessionClosed
from realtime_bus.server import Voice
from realtime_bus.session import Session
from realtime_bus_plugins._playback import ToSession
from realtime_bus_plugins.telephony import CallEnded, DtmfReceived

from ._ear import TICK_S, Ear, Utterance
from ._voices import BYTES_PER_MS, Voices, speak

_CHUNK_BYTES = int(TICK_S * 1000) * BYTES_PER_MS
_PROBE_BYTES = 960
_KEY_S = 0.2
_PHASE_S = 0.0071
"""Between the beginning of a call and that of a person's sound: what both do at round times must
not meet, for who comes first then is left to chance on trio."""


class Said:
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
    """Speaks into a session as a microphone does: 20 ms at a time, silence between words.

    Attributes:
        said: What the person said, in order.
    """

    def __init__(
        self,
        session: Session[Any],
        ear: Ear,
        *,
        voices: Voices,
        voice: Voice,
        clock: Callable[[], float],
        fail: Callable[[str], AssertionError],
        note: Callable[[str, str], None],
        words_of: Callable[[Utterance], str],
    ) -> None:
        self._session = session
        self._ear = ear
        self._voices: Voices = voices
        self._voice = voice
        self._now_s = clock
        self._fail = fail
        self._note = note
        self._words_of = words_of
        self._pcm, self._at = b"", 0
        self._quiet = anyio.Event()
        self._mouth = anyio.Lock()
        self._listened = 0  # how many utterances have been listened to
        self.said: list[Said] = []

    # speaking

    async def says(self, words: str, *, pcm: bytes | None = None) -> None:
        """Say something, in real time; return when the last word is out.

        Args:
            words: What.
            pcm: How it sounds, if not by the voice: PCM16 mono, 24 kHz.
        """
        async with self._mouth:
            if pcm is None:
                async with aclosing(speak(words, self._voices, self._voice)) as pieces:
                    pcm = b"".join([piece.pcm async for piece in pieces])
            self._check_open(f"say {words!r}")
            said = Said(words, pcm, self._now_s())
            self.said.append(said)
            self._pcm, self._at, self._quiet = pcm, 0, anyio.Event()
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
        """
        heard = self._ear.heard
        behind = len(heard) - 1 if heard and heard[-1].ended_s is None else len(heard)
        utterance = await self._listens(lambda _: True, behind=behind, within_s=within_s)
        assert utterance.began_s is not None  # noqa: S101  # for type checkers: it was heard
        await anyio.sleep(max(0.0, utterance.began_s + after_s - self._now_s()))
        if utterance.ended_s is not None:
            raise self._fail(
                f"the person was to interrupt after {after_s:g} s, but {utterance.text!r} was over "
                f"after {utterance.heard_ms / 1000:g} s"
            )
        await self.says(words)

    # listening

    async def hears(self, *, within_s: float = 30.0) -> str:
        """Listen until the assistant has said the next thing, or was cut off; return what was heard.

        What was said since the last call of this counts, too: nothing is missed between.

        Args:
            within_s: How long to listen.
        """
        utterance = await self._listens(
            lambda each: each.ended_s is not None, behind=self._listened, within_s=within_s
        )
        self._listened += 1
        return self._words_of(utterance)

    async def _listens(
        self, ready: Callable[[Utterance], bool], *, behind: int, within_s: float
    ) -> Utterance:
        try:
            with anyio.fail_after(within_s):
                return await self._ear.wait_for(ready, behind=behind)
        except TimeoutError:
            what = "nothing" if len(self._ear.heard) <= behind else "no end of it"
            raise self._fail(f"the person heard {what} within {within_s:g} s") from None
        except EOFError:
            raise self._fail("the call ended while the person listened") from None

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
            self._note("person", f"presses {key}")
            self._session.emit(DtmfReceived(digit=key))
            await anyio.sleep(_KEY_S)

    async def hangs_up(self) -> None:
        """End the call, as the telephony plugin does when the caller is gone."""
        self._check_open("hang up")
        self._note("person", "hangs up")
        self._session.emit(CallEnded(reason="stopped"))
        await self._session.aclose()

    # how it works

    def _check_open(self, what: str) -> None:
        if self._session.close_info is not None:
            raise self._fail(f"the person cannot {what}: the call has ended")

    async def run(self) -> None:
        """Send what the person says, and silence, until the call has ended."""
        await anyio.sleep(_PHASE_S)
        due_s = self._now_s()
        recoding = ToSession(self._session.settings.input_format)
        try:
            while self._session.close_info is None:
                if recoding.audio_format != self._session.settings.input_format:
                    recoding = ToSession(self._session.settings.input_format)
                chunk = self._pcm[self._at : self._at + _CHUNK_BYTES]
                self._at += len(chunk)
                if not chunk:
                    self._quiet.set()
                audio = recoding.convert(chunk.ljust(_CHUNK_BYTES, b"\0"))
                await self._session.append_audio(audio)
                due_s += TICK_S
                await anyio.sleep(max(0.0, due_s - self._now_s()))
        except SessionClosed:
            pass
        finally:
            self._quiet.set()

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Return what was said in a turn, from its audio; by its number where that cannot tell."""
        found = [said.text for said in self.said if said.probe and said.probe in audio]
        if found:
            return " ".join(found)
        return self.said[turn_index].text if turn_index < len(self.said) else None
