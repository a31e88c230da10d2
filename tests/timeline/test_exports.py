"""A recording as a WAV file and as text: held against what the sink and the person have."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from realtime_bus import UsageError
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem
from realtime_bus.recording import (
    Conversation,
    Ended,
    Flushed,
    Header,
    Line,
    Recording,
    RecordingError,
    Timeline,
    conversation,
    conversation_text,
    export_wav,
)
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import WavSink

from ._by_hand import HEADER, created, delta, line
from ._call import Person, Tape, call, tools

MS = 24  # samples


def sides(path: Path, rate_hz: int = 24_000) -> tuple[Any, Any]:
    """Return the two channels of a WAV file, which another reader reads."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, rate_hz)
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return frames[:, 0], frames[:, 1]


def sounds(samples: Any) -> list[tuple[int, Any]]:
    """Return each stretch of sound, and where it begins: 10 ms of silence end one."""
    loud = np.flatnonzero(samples)
    ends = np.flatnonzero(np.diff(loud) > 10 * MS)
    begins = [0, *(ends + 1)] if len(loud) else []
    return [
        (int(loud[b]), samples[loud[b] : loud[e] + 1])
        for b, e in zip(begins, [*ends, len(loud) - 1], strict=True)
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("looks", [True, False])
async def test_the_wav_holds_what_the_sink_played_and_what_the_person_said(
    tmp_path: Path, *, looks: bool
) -> None:
    """The person to the sample; the assistant within 1 ms, for sinks tell whole milliseconds."""
    sink = WavSink()
    tape = Tape(sink, looks=looks)
    async with call(sink, Interruption(sink), tools(), tape) as session:
        person = Person(session)
        await person.does(("silent", 300), ("speaks", 500), ("silent", 2000), ("speaks", 500))
        await person.does(("silent", 2500))
    export_wav(tape.lines, tmp_path / "call.wav")
    left, right = sides(tmp_path / "call.wav")

    said = np.frombuffer(bytes(person.said), "<i2")
    begin = round(tape.ms_of(person.began_s) * MS)
    assert np.array_equal(left[begin : begin + len(said)], said)
    assert not left[:begin].any()

    assert sink.started_s is not None
    offset = tape.ms_of(sink.started_s) * MS
    played, found = sounds(np.frombuffer(sink.heard, "<i2")), sounds(right)
    assert len(found) == len(played) == 2
    for (found_at, found_pcm), (played_at, played_pcm) in zip(found, played, strict=True):
        assert found_at == pytest.approx(played_at + offset, abs=MS)
        assert len(found_pcm) == pytest.approx(len(played_pcm), abs=MS)
        length = min(len(found_pcm), len(played_pcm))
        assert np.array_equal(found_pcm[:length], played_pcm[:length])


@pytest.mark.anyio
async def test_a_recording_without_audio_tells_the_same(tmp_path: Path) -> None:
    """From files of the `Recorder`: the same conversation at the same moments, and silence."""
    sink = WavSink()
    whole = Recorder(tmp_path / "whole", sink=sink)
    bare = Recorder(tmp_path / "bare", sink=sink, audio=False)
    async with call(whole, bare, sink, Interruption(sink), tools()) as session:
        person = Person(session)
        await person.does(("silent", 300), ("speaks", 500), ("silent", 2000), ("speaks", 500))
        await person.does(("silent", 2500))
    one, other = (Recording(recorder.path_of(session) or "") for recorder in (whole, bare))
    assert conversation_text(one) == conversation_text(other)
    assert "[interrupted after " in conversation_text(one)
    heard = [[part.heard for part in Timeline.of(each).assistant] for each in (one, other)]
    assert heard[0] == heard[1] != []
    export_wav(one, tmp_path / "one.wav")
    export_wav(other, tmp_path / "other.wav")
    assert [len(sounds(side)) for side in sides(tmp_path / "one.wav")] == [2, 2]
    assert not any(side.any() for side in sides(tmp_path / "other.wav"))


def ramp(ms: int, first: int = 1) -> bytes:
    """Return audio of which no sample is 0."""
    return (first + np.arange(ms * MS) % 9000).astype("<i2").tobytes()


def cut_call() -> list[Line]:
    """Return a recording in which the first of two answers was cut off after 300 ms."""
    cut = PlayedItem(item_id="a", played_ms=300, written_ms=1000)
    return [
        HEADER,
        created(0),
        delta(100, ramp(400)),
        delta(110, ramp(600)),
        line(400, ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="v")),
        Flushed(t_us=400_000, items=[cut]),
        delta(700, ramp(200, 5000), "b"),
        Ended(t_us=2_000_000),
    ]


def test_heard_is_without_what_was_cut_off(tmp_path: Path) -> None:
    """Silence from the barge-in on; the file is as long as the recording."""
    path = tmp_path / "heard.wav"
    export_wav(cut_call(), path)
    left, right = sides(path)
    assert len(left) == 2000 * MS
    assert not left.any()
    assert [(at // MS, len(pcm) // MS) for at, pcm in sounds(right)] == [(100, 300), (700, 200)]


def test_generated_is_with_it_and_two_answers_may_sound_at_once(tmp_path: Path) -> None:
    """The rest of the first answer lasts into the second: there they are added."""
    path = tmp_path / "generated.wav"
    export_wav(cut_call(), path, what="generated")
    right = sides(path)[1]
    first = np.frombuffer(ramp(400) + ramp(600), "<i2").astype(int)
    second = np.frombuffer(ramp(200, 5000), "<i2").astype(int)
    assert np.array_equal(right[100 * MS : 700 * MS], first[: 600 * MS])
    assert np.array_equal(right[700 * MS : 900 * MS], first[600 * MS : 800 * MS] + second)
    assert np.array_equal(right[900 * MS : 1100 * MS], first[800 * MS :])
    assert not right[1100 * MS :].any()


def test_what_is_too_loud_together_is_clipped(tmp_path: Path) -> None:
    """It does not wrap around."""
    loud = b"\xff\x7f" * MS * 100
    cut = PlayedItem(item_id="a", played_ms=10, written_ms=100)
    lines = [HEADER, created(0), delta(0, loud), Flushed(t_us=10_000, items=[cut])]
    export_wav([*lines, delta(20, loud, "b")], tmp_path / "loud.wav", what="generated")
    assert set(sides(tmp_path / "loud.wav")[1][: 100 * MS]) == {32767}


def test_a_call_in_g711_is_written_at_its_own_rate(tmp_path: Path) -> None:
    """8 kHz, decoded; nothing is resampled, so no extra is needed."""
    law = ev.AudioPCMU()
    lines = [
        HEADER,
        created(0, law),
        line(100, ev.InputAudioBufferAppend(audio=b"\x80" * 160)),
        delta(100, b"\x00" * 800),
        Ended(t_us=300_000),
    ]
    export_wav(lines, tmp_path / "phone.wav")
    left, right = sides(tmp_path / "phone.wav", 8000)
    assert np.array_equal(np.flatnonzero(left == 32124), np.arange(640, 800))
    assert np.array_equal(np.flatnonzero(right == -32124), np.arange(800, 1600))


def test_where_rates_differ_the_highest_is_taken(tmp_path: Path) -> None:
    """A format that changes in mid-session: a tone keeps its place, its length and its pitch."""
    tone = (8000 * np.sin(2 * np.pi * 400 * np.arange(1600) / 8000)).astype("<i2")
    lines = [
        HEADER,
        created(0, ev.AudioPCM(rate=8000)),
        line(300, ev.InputAudioBufferAppend(audio=tone.tobytes())),
        created(400),
        line(400, ev.InputAudioBufferAppend(audio=ramp(100))),
        Ended(t_us=1_000_000),
    ]
    export_wav(lines, tmp_path / "both.wav")
    left = sides(tmp_path / "both.wav")[0].astype(int)
    wanted = 8000 * np.sin(2 * np.pi * 400 * np.arange(200 * MS) / 24000)
    middle = slice(20 * MS, 180 * MS)  # a tone that begins at once rings at its ends
    assert np.abs(left[100 * MS : 300 * MS][middle] - wanted[middle]).max() < 80
    assert np.array_equal(left[300 * MS : 400 * MS], np.frombuffer(ramp(100), "<i2"))


def test_audio_that_was_left_out_is_silence_of_its_length(tmp_path: Path) -> None:
    """What comes behind it lies where it was said."""
    lines = [
        HEADER,
        created(0),
        line(
            200,
            b'{"type":"input_audio_buffer.append","audio":""}',
            left_out_bytes=100 * 48,
        ),
        line(300, ev.InputAudioBufferAppend(audio=ramp(100))),
        Ended(t_us=300_000),
    ]
    export_wav(lines, tmp_path / "part.wav")
    assert [(at // MS, len(pcm) // MS) for at, pcm in sounds(sides(tmp_path / "part.wav")[0])] == [
        (200, 100)
    ]


def test_half_samples_at_the_ends_of_deltas_meet(tmp_path: Path) -> None:
    """Deltas need not hold whole samples."""
    audio = ramp(100)
    lines = [HEADER, created(0), delta(0, audio[:1001]), delta(5, audio[1001:])]
    export_wav([*lines, Ended(t_us=200_000)], tmp_path / "odd.wav")
    assert np.array_equal(sides(tmp_path / "odd.wav")[1][: 100 * MS], np.frombuffer(audio, "<i2"))


def test_what_cannot_be_a_wav_is_refused(tmp_path: Path) -> None:
    """More than 12 hours, a device, a third kind: and no file is left behind."""
    path = tmp_path / "long.wav"
    with pytest.raises(RecordingError, match=r"13\.0 hours are more than a WAV file can hold"):
        export_wav([HEADER, Ended(t_us=13 * 3_600_000_000)], path)
    with pytest.raises(UsageError, match="neither 'heard' nor 'generated'"):
        export_wav([HEADER], path, what="all")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UsageError, match="is no file"):
        export_wav([HEADER], tmp_path)
    assert not path.exists()


def test_half_a_wav_is_not_left_behind(tmp_path: Path) -> None:
    """A recording that breaks while it is read again."""

    class Breaks(list[Line]):
        reads = 0

        def __iter__(self) -> Any:
            self.reads += 1
            yield from super().__iter__()
            if self.reads == 2:
                raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        export_wav(Breaks(cut_call()), tmp_path / "half.wav")
    assert not (tmp_path / "half.wav").exists()


# the conversation


def talk() -> list[Line]:
    """Return a recording with words."""
    user = ev.MessageItem(id="u", role="user", content=[ev.InputText(text="Hi\x1b[2J\nthere")])
    assistant = ev.MessageItem(id="a", role="assistant", content=[])
    words = ev.ResponseOutputAudioTranscriptDone(
        response_id="r_a",
        item_id="a",
        output_index=0,
        content_index=0,
        transcript="one two three four five six seven eight nine ten",
    )
    added = [
        line(10, ev.ConversationItemAdded(item=user, previous_item_id=None)),
        line(20, ev.ConversationItemAdded(item=assistant, previous_item_id="u")),
        line(390, words),
    ]
    begun, rest = cut_call()[:4], cut_call()[4:]
    return [*begun[:2], *added[:2], *begun[2:], added[2], *rest]


def test_the_conversation_as_text_has_no_control_characters() -> None:
    """A line for each item, with its moment; cut where it was cut."""
    assert conversation_text(talk()) == (
        "[00:00.010] user: Hi [2J there\n"
        "[00:00.100] assistant: one two three [interrupted after 300 ms]\n"
    )


def test_the_conversation_as_json() -> None:
    """It reads back as what it was made of."""
    found = conversation(Timeline.of(talk()))
    assert msgspec.json.decode(found.json(), type=Conversation) == found
    user, assistant = found.entries
    assert (user.text, user.role, user.heard_text) == ("Hi\x1b[2J\nthere", "user", None)
    assert (assistant.heard_text, assistant.heard_ms) == ("one two three", 300)
    assert (assistant.at_ms, assistant.end_ms) == (100, 400)
    assert (found.recording_id, found.length_ms, found.heard_from) == ("by hand", 2000, "sink")


def test_an_empty_recording_can_be_exported(tmp_path: Path) -> None:
    """Nobody said anything."""
    export_wav([Header(t_us=0)], tmp_path / "empty.wav")
    assert len(sides(tmp_path / "empty.wav")[0]) == 0
    assert conversation_text([Header(t_us=0)]) == ""
