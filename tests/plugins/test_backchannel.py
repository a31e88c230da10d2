"""Backchannels: what is held back and for how long, what goes on, and what is forgotten."""

# ruff: noqa: RUF001  # words in the scripts of their languages

from __future__ import annotations

import math
import random
from array import array
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.events import AudioPCM, AudioPCMA, AudioPCMU
from realtime_bus.server import (
    EnergyDetector,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    SileroDetector,
    Speech,
    SpeechDetector,
)
from realtime_bus.server._audio import alaw_encode, ulaw_encode
from realtime_bus_plugins._backchannel import Loudness, Words
from realtime_bus_plugins.backchannel import BACKCHANNELS, Backchannel, BackchannelHeard
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted, PlaybackStarted
from realtime_bus_plugins.sinks import NullSink

from ..server._sounds import silence, sine, speech  # noqa: TID252  # tests are no package with a name of its own
from ._wire import Clock, session_on

OURS = ev.ServerVad(silence_duration_ms=500, interrupt_response=False, create_response=False)
HOLD_MS = 600
DETECTED_MS = 100
"""From the first sound to `speech_started`, at most: two chunks and a piece."""


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps does not wait for threads: let the server write down in the event loop."""

    async def at_once(function: Callable[..., object], *arguments: object, **_: object) -> object:
        return function(*arguments)

    monkeypatch.setattr(anyio.to_thread, "run_sync", at_once)


def sound(ms: int) -> bytes:
    """Return what the energy detector takes for speech."""
    return sine(500, ms=ms)


def cough(ms: int) -> bytes:
    """Return a burst of noise that dies away."""
    source = random.Random(3)  # noqa: S311  # noise, not a secret
    count = 24 * ms
    burst = (source.gauss(0, 6000) * math.exp(-3 * i / count) for i in range(count))
    return array("h", (max(-32_000, min(32_000, round(value))) for value in burst)).tobytes()


def laugh(times: int) -> bytes:
    """Return "ha" so many times: a falling hum through the formants of an open mouth."""
    return b"".join(_ha(230 - 8 * i) + silence(70) for i in range(times))


def _ha(hz: float) -> bytes:
    count = 24 * 110
    pulses = [
        1.0 if int(i * hz / 24_000) != int((i - 1) * hz / 24_000) else 0.0 for i in range(count)
    ]
    heard = [0.0] * count
    for formant_hz, gain in ((700, 1.0), (1200, 0.6), (2600, 0.3)):
        decay = math.exp(-math.pi * 90 / 24_000)
        turn = 2 * decay * math.cos(2 * math.pi * formant_hz / 24_000)
        one = two = 0.0
        for i, pulse in enumerate(pulses):
            one, two = pulse + turn * one - decay * decay * two, one
            heard[i] += gain * one
    shaped = [value * math.sin(math.pi * i / count) for i, value in enumerate(heard)]
    loudest = max(map(abs, shaped))
    return array("h", (round(12_000 * value / loudest) for value in shaped)).tobytes()


class Storyteller:
    """Tells a story of so many seconds, then short answers."""

    def __init__(self, story_s: float) -> None:
        self._story_s = story_s

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Speech, None]:
        """Speak, at once."""
        seconds = self._story_s if request.response_index == 0 else 0.5
        yield Speech(bytes(2 * round(24_000 * seconds)), "words")


class Wrote:
    """Writes down what the test says was said."""

    def __init__(self, transcript: str | None) -> None:
        self._transcript = transcript

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Return it."""
        return self._transcript


class Outcome(msgspec.Struct):
    """What came of it; times are from the first sample of the sound.

    Attributes:
        silent_ms: When the assistant was interrupted, or None.
        told_ms: When handlers heard of the speech, or None.
        heard: What was no interruption.
        sent: Types of what was sent, but not the audio.
        responses: How many responses there were.
        turns: How many items of the person the conversation has in the end.
        playing: Whether the story was still told when all was over.
        failures: What handlers and tasks raised.
    """

    silent_ms: int | None = None
    told_ms: int | None = None
    heard: list[BackchannelHeard] = []
    sent: list[str] = []
    responses: int = 0
    turns: int = 0
    playing: bool = False
    failures: list[BaseException] = []


def happens(
    said: bytes,
    transcript: str | None = "Mhm.",
    *,
    story_s: float = 20.0,
    vad: ev.ServerVad = OURS,
    transcribed: bool = True,
    detector: Callable[[], SpeechDetector] = EnergyDetector,
    plugin: bool = True,
    delay_s: float = 0.0,
    **options: Any,
) -> Outcome:
    """Let somebody make a sound one second into a story, on a clock that jumps."""
    found = Outcome()

    async def main() -> None:
        server = RealtimeServer(
            Storyteller(story_s),
            options=ServerOptions(transcription_delay_s=delay_s),
            detector_factory=detector,
            transcriber=Wrote(transcript),
        )
        sink = NullSink(clock=anyio.current_time)
        plugins: list[Any] = [sink, Interruption(sink)]
        if plugin:
            plugins.insert(0, Backchannel(sink, **options))
        fields: dict[str, Any] = {"turn_detection": vad}
        if transcribed:
            fields["transcription"] = ev.Transcription(model="whisper-1")
        async with (
            server.connect_memory() as transport,
            Bus(log_errors=False).session(transport, plugins=plugins, **fields) as session,
        ):
            await _listen(session, sink, said, found)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return found


async def _listen(session: Session, sink: NullSink, said: bytes, found: Outcome) -> None:
    began_s = anyio.current_time() + 1000

    def at_ms() -> int:
        return round((anyio.current_time() - began_s) * 1000)

    session.on(BackchannelHeard)(found.heard.append)
    session.on(ev.HandlerFailed)(lambda event: found.failures.append(event.error))
    session.on(PlaybackInterrupted)(lambda _: setattr(found, "silent_ms", at_ms()))
    session.on(ev.InputAudioBufferSpeechStarted)(lambda _: setattr(found, "told_ms", at_ms()))
    session.on(ev.ResponseCreated)(lambda _: setattr(found, "responses", found.responses + 1))

    def note(event: ev.ClientEvent, _: Session) -> ev.ClientEvent:
        found.sent.append(event.type)
        return event

    session.intercept_outgoing(
        (
            ev.ResponseCreate,
            ev.ResponseCancel,
            ev.ConversationItemTruncate,
            ev.ConversationItemDelete,
        ),
        note,
    )
    started = session.wait_for(PlaybackStarted)
    session.respond()
    await started
    found.sent.clear()
    stream = silence(1000) + said + silence(1700)  # long enough for every verdict
    began_s = anyio.current_time() + 1
    for number, at in enumerate(range(0, len(stream), 960)):
        await session.append_audio(stream[at : at + 960])
        await anyio.sleep_until(began_s - 1 + (number + 1) * 0.02)
    found.playing = sink.playing
    items = session.conversation.items.values()
    found.turns = sum(item.role == "user" and not item.deleted for item in items)


# in time that jumps, with a server that hears


@pytest.mark.parametrize("said", [sound(300), cough(350), sound(120) + silence(100) + sound(200)])
def test_a_backchannel_changes_nothing(said: bytes) -> None:
    """The story goes on, nothing is cut or answered, no handler hears of it: it is forgotten."""
    found = happens(said, "Mhm.")
    assert found.silent_ms is found.told_ms is None
    assert found.sent == ["conversation.item.delete"]
    assert (found.responses, found.turns, found.playing) == (1, 0, True)
    assert [each.transcript for each in found.heard] == ["Mhm."]
    assert found.failures == []


def test_without_the_plugin_it_interrupts() -> None:
    """The same sound, in the same place: what the plugin is for."""
    found = happens(sound(300), plugin=False)
    assert found.silent_ms is not None
    assert found.silent_ms <= DETECTED_MS
    assert found.sent == ["response.cancel", "conversation.item.truncate"]


@pytest.mark.parametrize("hold_ms", [0, 200, 600, 1000])
def test_a_real_interruption_is_late_by_the_bound(hold_ms: int) -> None:
    """Whoever goes on speaking silences the assistant `hold_ms` after the server heard them."""
    at_once = happens(sound(2000), "Wait, how much?", plugin=False).silent_ms
    found = happens(sound(2000), "Wait, how much?", hold_ms=hold_ms)
    assert at_once is not None
    assert found.silent_ms is not None
    assert 0 <= found.silent_ms - at_once - hold_ms <= 5
    assert found.told_ms == found.silent_ms
    assert found.sent == ["response.cancel", "conversation.item.truncate", "response.create"]
    assert (found.responses, found.turns, found.heard) == (2, 1, [])


def test_a_short_word_that_is_none_interrupts_when_it_is_written_down() -> None:
    """As short as "mhm" is "Stop!": which it was is known once the server has transcribed it."""
    found = happens(sound(300), "Stop!")
    assert found.silent_ms is not None
    assert 300 + 500 <= found.silent_ms <= 300 + 500 + DETECTED_MS
    assert found.sent == ["response.cancel", "conversation.item.truncate", "response.create"]
    assert (found.responses, found.turns, found.heard) == (2, 1, [])


@pytest.mark.parametrize(("transcript", "transcribed"), [("Stop!", False), (None, True)])
def test_without_words_length_decides(transcript: str | None, transcribed: bool) -> None:
    """A short sound is let pass, unanswered; its item stays, for nobody knows what it was."""
    found = happens(sound(300), transcript, transcribed=transcribed)
    assert found.silent_ms is None
    assert found.sent == []
    assert (found.responses, found.turns, found.playing) == (1, 1, True)
    assert [each.transcript for each in found.heard] == [None]


def test_words_that_do_not_come_are_not_waited_for() -> None:
    """After words_ms length decides; what is written down later changes nothing."""
    found = happens(sound(300), "Stop!", delay_s=0.5, words_ms=100)
    assert [each.transcript for each in found.heard] == [None]
    assert (found.silent_ms, found.sent, found.playing) == (None, [], True)


def test_what_has_no_words_is_a_turn_if_the_assistant_has_ended() -> None:
    """Also where the answer ends while the transcript is waited for."""
    found = happens(sound(300), "Yes.", delay_s=10, words_ms=500, story_s=2.1)
    assert found.heard == []
    assert found.sent == ["response.create"]
    assert (found.responses, found.turns) == (2, 1)


def test_items_may_be_kept() -> None:
    """With forget=False the conversation keeps the "mhm"."""
    found = happens(sound(300), forget=False)
    assert (found.sent, found.turns, len(found.heard)) == ([], 1, 1)


def test_who_pauses_at_the_bound_interrupts_by_going_on() -> None:
    """Silent when the bound comes, and heard as soon as there is more: "Wait … how much?"."""
    found = happens(sound(300) + silence(450) + sound(1000), "Wait, how much?")
    assert found.silent_ms is not None
    assert 730 <= found.silent_ms <= 770  # a piece is sent when it begins
    assert found.heard == []


def test_what_is_said_into_the_end_of_an_answer_is_a_turn() -> None:
    """By the time its verdict is due the assistant is silent, and waits for an answer: "Yes"."""
    found = happens(sound(300), "Yes.", story_s=1.5)
    assert found.heard == []
    assert found.told_ms is not None
    assert found.sent == ["response.create"]
    assert (found.responses, found.turns) == (2, 1)


def test_speech_in_silence_is_a_turn_at_once() -> None:
    """Nothing is held while the assistant says nothing; its end is answered."""
    found = happens(sound(300), "Mhm.", story_s=0.1)
    assert found.told_ms is not None
    assert found.told_ms <= DETECTED_MS
    assert (found.sent, found.heard) == (["response.create"], [])


def test_a_server_that_interrupts_by_itself_is_reported() -> None:
    """Then there is nothing to judge: everything passes, and is said once."""
    found = happens(sound(300), vad=ev.ServerVad(silence_duration_ms=500))
    assert found.told_ms is not None
    assert found.told_ms <= DETECTED_MS
    told = sorted(str(error) for error in found.failures)
    assert [type(error) for error in found.failures] == [UsageError, UsageError]
    assert "interrupt_response=False, create_response=False" in told[0]
    assert "answers every backchannel by itself" in told[1]
    assert found.heard == []


@pytest.mark.parametrize(
    ("said", "transcript", "hold_ms"),
    [
        ("Mhm.", "Mhm.", 600),
        ("Yeah.", "Yeah.", 600),
        ("uh huh", "Uh-huh.", 600),
        ("ha ha ha", "[laughter]", 1000),
    ],
)
def test_a_voice_that_listens_aloud_interrupts_nobody(
    said: str, transcript: str, hold_ms: int
) -> None:
    """Real sounds, a real detector: each of them starts speech, and none of them ends the story."""
    heard = speech(said)
    assert happens(heard, transcript, detector=SileroDetector, plugin=False).silent_ms is not None
    found = happens(heard, transcript, detector=SileroDetector, hold_ms=hold_ms)
    assert (found.silent_ms, found.responses, found.playing) == (None, 1, True)
    assert [each.transcript for each in found.heard] == [transcript]


def test_a_laugh_interrupts_nobody() -> None:
    """Nor does one that no transcriber finds words in."""
    assert happens(laugh(4), "", detector=SileroDetector, plugin=False).silent_ms is not None
    found = happens(laugh(4), "", detector=SileroDetector)
    assert (found.silent_ms, found.responses, found.playing) == (None, 1, True)


def test_a_voice_that_interrupts_is_heard_within_the_bound() -> None:
    """A real sentence, by the real detector."""
    said = speech("Wait, I would rather have rice.")
    at_once = happens(said, detector=SileroDetector, plugin=False).silent_ms
    found = happens(said, "Wait, I would rather have rice.", detector=SileroDetector)
    assert at_once is not None
    assert found.silent_ms is not None
    assert found.silent_ms - at_once <= HOLD_MS + 100  # a consonant may fall on the bound


# event by event


@pytest.mark.anyio
async def test_a_word_in_a_partial_transcript_interrupts_before_the_bound() -> None:
    """Some transcribers write while somebody speaks; half a word does not count."""
    clock = Clock()
    sink = NullSink(clock=clock)
    plugins = (Backchannel(sink, hold_ms=60_000), sink, Interruption(sink))
    async with session_on(*plugins, detection=OURS) as (_, wire):
        wire.respond()
        wire.speak(bytes(48_000))
        clock.now_s += 0.25
        wire.interrupt()
        for delta in ("Ye", "ah, oka", "y, w", "ait"):
            assert sink.playing
            wire.feed(
                ev.ConversationItemInputAudioTranscriptionDelta(
                    item_id="user", content_index=0, delta=delta
                )
            )
        assert not sink.playing
        assert [event.type for event in wire.sent] == [
            "response.cancel", "conversation.item.truncate",
        ]  # fmt: skip  # one line


def test_where_somebody_else_streams_the_audio_the_server_says_who_speaks() -> None:
    """Nothing is known of sound then: speech that has not stopped at the bound was meant."""

    async def main() -> None:
        sink = NullSink(clock=anyio.current_time)
        plugins = (Backchannel(sink), sink, Interruption(sink))
        async with session_on(*plugins, detection=OURS) as (_, wire):
            wire.respond()
            wire.speak(bytes(48_000 * 10))
            wire.interrupt()
            wire.feed(ev.InputAudioBufferSpeechStopped(audio_end_ms=1900, item_id="user"))
            await anyio.sleep(1)
            assert sink.playing
            wire.feed(ev.InputAudioBufferSpeechStarted(audio_start_ms=3000, item_id="other"))
            await anyio.sleep(HOLD_MS / 1000 - 0.001)
            assert sink.playing
            await anyio.sleep(0.002)
            assert not sink.playing

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["cleared", "reconnecting"])
async def test_what_the_server_forgets_is_not_judged(how: str) -> None:
    """Of a cleared buffer or a lost connection comes neither an interruption nor a backchannel."""
    clock = Clock()
    sink = NullSink(clock=clock)
    heard: list[BackchannelHeard] = []
    plugins = (Backchannel(sink, hold_ms=0), sink, Interruption(sink))
    async with session_on(*plugins, detection=OURS) as (session, wire):
        session.on(BackchannelHeard)(heard.append)
        wire.respond()
        wire.speak(bytes(48_000))
        clock.now_s += 0.25
        wire.interrupt()
        if how == "cleared":
            wire.feed(ev.InputAudioBufferCleared())
        else:
            session.emit(ev.Reconnecting(attempt=1, delay_s=0.0, code=1006, reason=""))
        await anyio.wait_all_tasks_blocked()
        assert sink.playing
    assert heard == []


@pytest.mark.anyio
async def test_many_backchannels_are_not_remembered() -> None:
    """A server that never commits them costs no memory, and the last one is still judged."""
    clock = Clock()
    sink = NullSink(clock=clock)
    async with session_on(Backchannel(sink), sink, detection=OURS) as (session, wire):
        wire.respond()
        wire.speak(bytes(48_000))
        heard: list[str] = []
        session.on(BackchannelHeard)(lambda event: heard.append(event.item_id))
        for number in range(100):
            item_id = f"user_{number}"
            wire.feed(
                ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id=item_id),
                ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id=item_id),
            )
        assert heard == [f"user_{number}" for number in range(100)]


@pytest.mark.parametrize("option", ["hold_ms", "words_ms"])
def test_a_length_below_zero_is_a_mistake(option: str) -> None:
    """It is told where it was written."""
    with pytest.raises(UsageError, match=f"{option}=-1"):
        Backchannel(NullSink(), **{option: -1})


# words


ALL = Words(phrase for phrases in BACKCHANNELS.values() for phrase in phrases)


LISTENING = """
    Mhm.|mhm, mhm|Mmmmm|Mm-hmm.|Uh-huh|Yeah, yeah, right.|OK!|I see.|Ha ha ha|Hahahaha!|[laughter]
    (coughs)|*sighs* yeah|D\u2019accord.|Genau, genau.|ach so|Sí, claro.|va bene|そうですね。
    うんうん|はい、はい。|네네|对对对|嗯嗯，好的。|угу|ладно, да||...
"""
SPEAKING = """
    Stop!|No.|No, no.|Wait.|Yeah, but wait.|Okay, how much rice?|What?|Nein|Halt|Warte mal
    Non, attends|Espera|Basta|Aspetta|やめて|ちょっと待って|不|停|Нет|стоп|Hayır|[laughter] stop
    Why?|Hello?|Sorry|No tak
"""


@pytest.mark.parametrize("transcript", LISTENING.strip().replace("\n    ", "|").split("|"))
def test_what_listeners_say(transcript: str) -> None:
    """In several languages, as transcribers spell it."""
    assert ALL.cover(transcript)


@pytest.mark.parametrize("transcript", SPEAKING.strip().replace("\n    ", "|").split("|"))
def test_what_somebody_says_who_interrupts(transcript: str) -> None:
    """None of it is taken for a backchannel of any language."""
    assert not ALL.cover(transcript)


def test_every_phrase_of_every_language_is_covered() -> None:
    """By the list of its own language, also twice over, and with a capital."""
    for phrases in BACKCHANNELS.values():
        words = Words(phrases)
        assert all(words.cover(f"{phrase.capitalize()}, {phrase}!") for phrase in phrases)


def test_a_part_of_a_transcript_may_end_in_half_a_word() -> None:
    """What may become a backchannel is none yet, and what may not is a word."""
    words = Words(["yeah", "of course"])
    assert all(
        words.cover(part, complete=False) for part in ("y", "Yeah, ye", "of", "yeah of cour")
    )
    assert not any(words.cover(part, complete=False) for part in ("yo", "yeah of cars", "of y"))
    assert not words.cover("of")


# loudness


@pytest.mark.parametrize(
    ("audio_format", "encode"),
    [(AudioPCM(), bytes), (AudioPCMU(), ulaw_encode), (AudioPCMA(), alaw_encode)],
    ids=["pcm", "pcmu", "pcma"],
)
@pytest.mark.parametrize("floor", [0, 60])
def test_silence_after_a_sound_is_measured(
    audio_format: Any, encode: Callable[[bytes], bytes], floor: int
) -> None:
    """In each format, over a floor of noise or none, within a frame."""
    rate_hz = 24_000 if isinstance(audio_format, AudioPCM) else 8_000
    hum = sine(150, rate_hz=rate_hz, ms=300, peak=floor)
    loudness = Loudness()
    assert loudness.quiet_ms is None
    loudness.add(encode(hum + sine(500, rate_hz=rate_hz, ms=200, peak=8000)), audio_format)
    assert loudness.quiet_ms == 0
    loudness.add(encode(hum), audio_format)
    assert loudness.quiet_ms in {280, 300}


@pytest.mark.parametrize("peak", [0, 300, 16_000])
def test_what_is_always_loud_is_sound_and_silence_is_none(peak: int) -> None:
    """Nobody is missed in a room that is always loud."""
    loudness = Loudness()
    loudness.add(sine(500, ms=2000, peak=peak), AudioPCM())
    assert (loudness.quiet_ms == 0) is (peak > 0)


@given(lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=30))
@settings(deadline=None, max_examples=20)
def test_how_audio_is_cut_makes_no_difference(lengths: list[int]) -> None:
    """Nor does it cost memory: what is kept is 1.2 s."""
    stream = sound(400) + silence(200)
    whole, pieces = Loudness(), Loudness()
    whole.add(stream, AudioPCM())
    at = turn = 0
    while at < len(stream):
        length = 2 * lengths[turn % len(lengths)]
        pieces.add(stream[at : at + length], AudioPCM())
        at, turn = at + length, turn + 1
    assert pieces.quiet_ms == whole.quiet_ms == 200
