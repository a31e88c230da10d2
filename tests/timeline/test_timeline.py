"""What a recording says happened: a call with a tool and a barge-in, and stranger ones."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus._virtual_time import run_virtual
from realtime_bus.audio import PlayedItem
from realtime_bus.history import Prices
from realtime_bus.recording import (
    Ended,
    Flushed,
    Line,
    Played,
    Received,
    Recording,
    Sent,
    Timeline,
    Told,
    conversation,
    conversation_text,
)
from realtime_bus.testing import place_call
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink, WavSink

from ._by_hand import HEADER, created, delta, line
from ._call import Person, Tape, call, cook_server, tools

pytestmark = pytest.mark.anyio


async def interrupted_call(tape: Tape, sink: WavSink) -> Session:
    """Hold a call: a question, a tool, an answer that is interrupted, a short one."""
    async with call(sink, Interruption(sink), tools(), tape) as session:
        person = Person(session)
        await person.does(("silent", 300), ("speaks", 500), ("silent", 2000), ("speaks", 500))
        await person.does(("silent", 2500))
    return session


async def test_a_call_with_a_tool_and_a_barge_in() -> None:
    """Speech, turns, the call, what was heard, and the silence: each at its moment."""
    sink = WavSink()
    tape = Tape(sink)
    await interrupted_call(tape, sink)
    timeline = Timeline.of(tape.lines)
    assert timeline.heard_from == "sink"
    assert timeline.ended is not None
    first, second = timeline.speech
    assert 0 <= first.from_ms <= 300  # padding included
    assert first.started_ms == pytest.approx(300 + first.audio_start_ms - first.from_ms, abs=300)
    assert first.voice_end_ms == pytest.approx(800, abs=60)
    assert second.voice_end_ms == pytest.approx(3300, abs=60)

    (tool,) = timeline.calls
    assert (tool.name, tool.arguments, tool.output) == ("set_timer", '{"minutes":9}', "9 min")
    assert tool.took_ms == pytest.approx(300, abs=20)

    asked, answered = timeline.turns
    assert (asked.origin, len(asked.response_ids), asked.interrupted) == ("speech", 2, True)
    assert asked.to_heard_ms == pytest.approx(300, abs=60)
    assert (len(answered.response_ids), answered.interrupted) == (1, False)

    (barge_in,) = timeline.barge_ins
    assert barge_in.speech_ms == second.started_ms == barge_in.silent_ms
    assert barge_in.latency_ms is not None
    long, short = timeline.assistant
    (cut,) = barge_in.items
    assert (cut.item_id, cut.generated_ms) == (long.item_id, long.generated_ms)
    assert cut.heard_ms == int(long.heard_ms)
    assert long.silenced_ms == long.heard[-1].end_ms == barge_in.silent_ms
    assert long.generated_ms > long.heard_ms
    assert (short.generated_ms, short.discarded_ms, short.silenced_ms) == (1000, 0, None)

    question, tool_call, output, answer, interruption, last = timeline.said
    assert [question.text, interruption.text] == ["turn 0", "turn 1"]
    assert [tool_call.item.type, output.item.type] == ["function_call", "function_call_output"]
    assert answer.heard_ms == cut.heard_ms
    assert answer.text.startswith(answer.heard_text + " ")
    assert len(answer.heard_text) / len(answer.text) == pytest.approx(
        long.heard_ms / long.generated_ms, abs=0.1
    )
    assert last.text == last.heard_text == "word0 word1 word2 word3 word4 "
    assert [said.at_ms for said in timeline.said] == sorted(said.at_ms for said in timeline.said)
    assert sum(usage.output_audio for usage in timeline.usage.values()) > 0
    assert timeline.cost({"local": Prices(output_audio=1e6)}).total > 0
    assert not timeline.problems


async def test_without_a_sink_in_the_recording_it_is_told_so() -> None:
    """What was heard is what the truncation says; without one, all that came."""
    sink = WavSink()
    tape = Tape()
    await interrupted_call(tape, sink)
    bare = [line for line in tape.lines if not _of_playback(line)]
    timeline = Timeline.of(bare)
    assert timeline.heard_from == "truncations"
    (barge_in,) = timeline.barge_ins
    long, short = timeline.assistant
    assert long.heard_ms == barge_in.items[0].heard_ms < long.generated_ms
    assert short.heard_ms == short.generated_ms
    assert timeline.said[3].heard_ms == long.heard_ms

    untold = [line for line in bare if b"item.truncate" not in _frame(line)]
    timeline = Timeline.of(untold)
    assert timeline.heard_from == "arrival"
    assert timeline.said[3].heard_ms is None


async def test_the_same_whatever_is_known_of_playback() -> None:
    """With looks at the sink, or only what `Interruption` tells: the same was heard, to 2 ms."""
    sink = WavSink()
    tape = Tape(sink)
    await interrupted_call(tape, sink)
    fewer = [line for line in tape.lines if not isinstance(line, Played)]
    fewest = [line for line in fewer if not isinstance(line, Flushed)]
    whole, *others = (Timeline.of(lines) for lines in (tape.lines, fewer, fewest))
    for other in others:
        assert [s.heard_text for s in other.said] == [s.heard_text for s in whole.said]
        for one, two in zip(other.assistant, whole.assistant, strict=True):
            assert one.heard_ms == pytest.approx(two.heard_ms, abs=2)
            assert one.heard[0].at_ms == pytest.approx(two.heard[0].at_ms, abs=2)


async def test_every_beginning_of_a_recording_can_be_read() -> None:
    """A recording that is cut off anywhere raises nowhere, and never tells more than the whole."""
    sink = WavSink()
    tape = Tape(sink)
    await interrupted_call(tape, sink)
    whole = Timeline.of(tape.lines)
    for end in range(1, len(tape.lines), 40):
        part = Timeline.of(tape.lines[:end])
        assert part.ended is None
        assert len(part.responses) <= len(whole.responses)
        assert sum(a.heard_ms for a in part.assistant) <= sum(a.heard_ms for a in whole.assistant)


async def test_whatever_the_fields_hold_nothing_raises() -> None:
    """Values of other types, lines that are missing, twice there, or out of order."""
    sink = WavSink()
    tape = Tape(sink)
    await interrupted_call(tape, sink)
    noise = random.Random(12)  # noqa: S311  # no secret
    # audio alone has little to go wrong
    lines = [msgspec.to_builtins(each, enc_hook=_raw) for each in tape.lines]
    lines = [each for at, each in enumerate(lines) if at % 8 == 0 or "audio" not in _type(each)]
    decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
    for _ in range(30):
        broken: list[Line] = []
        for each in lines:
            changed = _mutated(each, noise) if noise.random() < 0.1 else each
            with suppress(msgspec.MsgspecError):
                broken.append(decoder.decode(msgspec.json.encode(changed)))
        at = noise.randrange(len(broken))
        broken[at:at] = noise.sample(broken, 20)
        timeline = Timeline.of(broken, peaks=True)
        assert all(part.heard_ms <= part.generated_ms + 1e-6 for part in timeline.assistant)
        assert conversation(timeline).json()
        assert conversation_text(timeline) is not None


_ODD: tuple[Any, ...] = (
    None,
    "",
    -1,
    10**15,
    1e18,
    -5.5,
    "x",
    [],
    {},
    [None],
    {"a": 1},
    True,
    "root",
)


def _raw(value: Any) -> Any:
    return msgspec.json.decode(value)


def _type(found: dict[str, Any]) -> str:
    frame: dict[str, Any] = found.get("frame") or {}
    return str(frame.get("type"))


def _mutated(value: Any, noise: random.Random) -> Any:
    """Return data with something in it changed."""
    if isinstance(value, dict) and value:
        fields = cast("dict[str, Any]", value)
        name = noise.choice([*fields])
        if noise.random() < 0.2:
            return {key: each for key, each in fields.items() if key != name}
        return {**fields, name: _mutated(fields[name], noise)}
    if isinstance(value, list) and value:
        elements = cast("list[Any]", value)
        index = noise.randrange(len(elements))
        return [*elements[:index], _mutated(elements[index], noise), *elements[index + 1 :]]
    return noise.choice(_ODD)


async def test_a_line_that_breaks() -> None:
    """Each connection, what it was given back, and speech after it at its moment."""
    tape = Tape()
    server = cook_server()
    async with server.serve() as bound:
        async with Bus(plugins=[tape]).connect(bound.url_for("any")) as session:
            await session.send_text("My name is Ada.")
            back = session.wait_for(ev.Reconnected)
            server.sessions[0].drop()
            await back
            await session.send_text("What is my name?")
    timeline = Timeline.of(tape.lines)
    first, second = timeline.connections
    assert (first.cause, second.cause) == (None, "lost")
    assert first.to_ms is not None
    assert first.from_ms <= first.to_ms <= second.from_ms
    assert len(second.restored) == 1
    assert [said.text for said in timeline.said] == ["My name is Ada.", "What is my name?"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_given_back_is_no_news(tmp_path: Path, backend: Any) -> None:
    """An item has its moments and words, whatever another server was told of it, and calls it."""
    sink = NullSink()
    bus = Bus(plugins=[Recorder(tmp_path, sink=sink), sink, Interruption(sink)])

    async def main() -> None:
        async with place_call(bus, ["One two three four five six.", "Bye."]) as call:
            await call.person.says("Count!")
            await call.session.wait_for(ev.ResponseDone)
            back = call.session.wait_for(ev.Reconnected)
            call.server.drop()
            await back
            await call.person.says("Stop!")
            await call.person.hears()
            await call.person.hears()

    run_virtual(main, backend=backend)
    [path] = tmp_path.iterdir()
    assert '"kind":"names"' in path.read_text()
    timeline = Timeline.of(Recording(path))
    count = next(said for said in timeline.said if said.item.role == "assistant")
    [audio] = [each for each in timeline.assistant if each.item_id == count.item.id]
    assert count.text == "One two three four five six."
    assert len(count.heard_text) < len(count.text)
    assert (count.at_ms, count.end_ms) == (audio.heard[0].at_ms, audio.silenced_ms)
    assert len(timeline.said) == 4


def test_a_files_name_is_no_recording() -> None:
    """Who gives one is told what to give."""
    name: Any = "call.jsonl"
    with pytest.raises(UsageError, match=r"Recording\('call.jsonl'\)"):
        Timeline.of(name)


async def test_a_session_that_writes() -> None:
    """Text in, text out: turns without audio."""
    tape = Tape()
    async with call(tape) as session:
        await session.update(output_modalities=["text"])
        await session.send_text("How many eggs?")
        await session.respond()
    timeline = Timeline.of(tape.lines)
    (turn,) = timeline.turns
    assert turn.origin == "text"
    assert turn.first_text_ms is not None
    assert turn.to_heard_ms is None
    assert [said.text for said in timeline.said] == ["How many eggs?", "Four eggs."]
    assert not timeline.assistant


async def test_a_response_out_of_band_belongs_to_no_turn() -> None:
    """It is there, but not in the conversation."""
    tape = Tape()
    async with call(tape) as session:
        await session.update(output_modalities=["text"])
        await session.send_text("How many eggs?")
        await session.respond()
        await session.respond(conversation="none", instructions="Judge.")
    timeline = Timeline.of(tape.lines)
    assert [response.in_conversation for response in timeline.responses] == [True, False]
    assert [len(turn.response_ids) for turn in timeline.turns] == [1]
    assert len(timeline.said) == 2


# by hand


def test_g711_has_8_bytes_a_millisecond_and_a_format_may_change() -> None:
    """Lengths go by the format in force, of each response by its own."""
    pcmu = ev.AudioPCMU()
    own = ev.ResponseAudio(output=ev.ResponseAudioOutput(format=ev.AudioPCM()))
    timeline = Timeline.of(
        [
            HEADER,
            created(0, pcmu),
            line(20, ev.InputAudioBufferAppend(audio=b"\xff" * 160)),
            delta(30, b"\xff" * 800),
            line(40, ev.ResponseCreated(response=ev.Response(id="r_b", audio=own))),
            delta(50, bytes(4800), "b"),
            created(60),
            line(80, ev.InputAudioBufferAppend(audio=bytes(960))),
            Ended(t_us=1_000_000),
        ],
        peaks=True,
    )
    assert timeline.person.length_ms == 40
    assert timeline.person.peaks == bytes(4)
    assert [part.generated_ms for part in timeline.assistant] == [100, 100]
    assert [part.rate_hz for part in timeline.assistant] == [8000, 24000]


def test_audio_that_was_left_out_has_a_length() -> None:
    """It lies in time like any other, and its peaks are 0."""
    timeline = Timeline.of(
        [
            HEADER,
            created(0),
            line(20, b'{"type":"input_audio_buffer.append","audio":""}', left_out_bytes=960),
            delta(30, b"", left_out_bytes=48_000),
            Ended(t_us=500_000),
        ],
        peaks=True,
    )
    assert timeline.person.length_ms == 20
    (part,) = timeline.assistant
    assert (part.generated_ms, part.heard_ms, part.peaks) == (1000, 470, bytes(100))


def test_peaks_are_the_loudest_sample_of_each_10_ms() -> None:
    """255 is full scale; G.711's own scale comes near it."""
    loud = (b"\x00\x80" + bytes(478), b"\x00\x40" * 240, bytes(480))
    pcm = Timeline.of([HEADER, created(0), delta(0, b"".join(loud))], peaks=True)
    assert list(pcm.assistant[0].peaks) == [255, 128, 0]
    for audio_format, zero in ((ev.AudioPCMU(), b"\xff"), (ev.AudioPCMA(), b"\xd5")):
        audio = b"\x80" if isinstance(audio_format, ev.AudioPCMU) else b"\xaa"
        lines = [HEADER, created(0, audio_format), delta(0, audio + zero * 159)]
        peaks = list(Timeline.of(lines, peaks=True).assistant[0].peaks)
        assert peaks[0] > 245
        assert peaks[1] == 0


def test_peaks_need_no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the same without it, only slower."""
    lines = [HEADER, created(0), delta(0, bytes(range(256)) * 300)]
    fast = Timeline.of(lines, peaks=True)
    monkeypatch.setattr("realtime_bus.recording._timeline._peaks._numpy", lambda: None)
    assert Timeline.of(lines, peaks=True).assistant[0].peaks == fast.assistant[0].peaks


def test_what_went_wrong_is_told() -> None:
    """Errors, unknown events, frames that are none: each with its moment."""
    error = ev.Error(error=ev.ErrorDetails(type="invalid_request_error", message="no such item"))
    timeline = Timeline.of(
        [
            HEADER,
            line(10, error),
            line(20, b'{"type":"session.dances"}'),
            line(30, b"[1,2]"),
            Received(t_us=40_000, broken="AAAA"),
            line(50, b'{"type":"response.done","response":17}'),
            line(60, b'{"type":"response.output_audio.delta","delta":"!!"}'),
        ]
    )
    assert [(problem.at_ms, problem.kind) for problem in timeline.problems] == [
        (10, "error"),
        (20, "unknown_event"),
        (30, "invalid_frame"),
        (40, "invalid_frame"),
    ]
    assert timeline.problems[0].text == "no such item"


def test_a_clock_that_jumps_back_does_not_undo_time() -> None:
    """Moments never shrink."""
    timeline = Timeline.of([HEADER, created(100), delta(50, bytes(480)), Ended(t_us=0)])
    assert timeline.end_ms == 100
    assert timeline.assistant[0].deltas[0].at_ms == 100


def test_a_translation_is_words_of_both_sides() -> None:
    """There are no items: a pause begins another line."""
    frames = [
        (0, b'{"type":"session.created","session":{"type":"translation","id":"s"}}'),
        (500, b'{"type":"session.input_transcript.delta","delta":"Guten "}'),
        (600, b'{"type":"session.input_transcript.delta","delta":"Tag."}'),
        (900, b'{"type":"session.output_transcript.delta","delta":"Good day."}'),
        (910, b'{"type":"session.output_audio.delta","delta":"%b"}' % (b"AAAA" * 1600)),
        (9000, b'{"type":"session.input_transcript.delta","delta":"Ja?"}'),
    ]
    timeline = Timeline.of([HEADER, *(line(at_ms, frame) for at_ms, frame in frames)])
    assert [(said.item.role, said.text) for said in timeline.said] == [
        ("user", "Guten Tag."),
        ("assistant", "Good day."),
        ("user", "Ja?"),
    ]
    assert timeline.assistant[0].heard_ms == 100


def test_a_sink_that_is_flushed_because_the_session_ends_was_cut_off_by_nobody() -> None:
    """What was not heard is discarded all the same."""
    item = PlayedItem(item_id="a", played_ms=400, written_ms=1000)
    timeline = Timeline.of(
        [
            HEADER,
            created(0),
            delta(100, bytes(48_000)),
            Flushed(t_us=500_000, items=[item]),
            Ended(t_us=501_000),
        ]
    )
    assert timeline.barge_ins == []
    assert timeline.assistant[0].heard_ms == 400


def test_positions_in_the_input_count_anew_on_another_connection() -> None:
    """Speech after a reconnection lies where it was said; late ends of old items are no news."""
    second_of_silence = range(20, 1001, 20)
    given_back = ev.MessageItem(id="item_there", role="user", content=[ev.InputText(text="Old.")])
    reconnected = {
        "cause": "lost",
        "session_id": "s2",
        "restored": ["u"],
        "lost": [{"what": "audio", "id": "", "why": "it was not committed"}],
    }
    timeline = Timeline.of(
        [
            HEADER,
            created(0),
            *(line(ms, ev.InputAudioBufferAppend(audio=bytes(960))) for ms in second_of_silence),
            Told(t_us=1_500_000, type="bus.reconnecting", event={"attempt": 1}),
            Told(t_us=2_900_000, type="bus.reconnected", event=reconnected),
            line(2950, ev.ConversationItemDone(item=given_back, previous_item_id=None)),
            *(
                line(3000 + ms, ev.InputAudioBufferAppend(audio=bytes(960)))
                for ms in second_of_silence
            ),
            line(4000, ev.InputAudioBufferSpeechStarted(audio_start_ms=200, item_id="v")),
            Ended(t_us=5_000_000),
        ]
    )
    assert [(p.at_ms, p.length_ms) for p in timeline.person.pieces] == [(0, 1000), (3000, 1000)]
    assert timeline.speech[0].from_ms == 3200
    assert timeline.said == []
    first, second = timeline.connections
    assert (first.to_ms, second.from_ms, second.session_id) == (1500, 2900, "s2")
    assert second.lost == ["audio: it was not committed"]


def test_what_a_far_end_learns_later_is_in_all_that_tells_of_it() -> None:
    """In the barge-in as in the audio."""
    item = PlayedItem(item_id="a", played_ms=300, written_ms=1000)
    later = PlayedItem(item_id="a", played_ms=420, written_ms=1000)
    timeline = Timeline.of(
        [
            HEADER,
            created(0),
            delta(100, bytes(48_000)),
            line(550, ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u")),
            Flushed(t_us=550_000, items=[item]),
            Flushed(t_us=600_000, items=[later], settled=True),
            Ended(t_us=5_000_000),
        ]
    )
    assert timeline.assistant[0].heard_ms == 420
    assert timeline.barge_ins[0].items[0].heard_ms == 420


def test_a_recording_that_was_cut_off_says_of_nobody_that_they_were_interrupted() -> None:
    """The audio ends with it, the words do not; who hangs up has heard no more."""
    item = ev.MessageItem(id="a", role="assistant", content=[])
    words = ev.ResponseOutputAudioTranscriptDelta(
        response_id="r_a", item_id="a", output_index=0, content_index=0, delta="one two three four"
    )
    lines = [
        HEADER,
        created(0),
        line(90, ev.ConversationItemAdded(item=item, previous_item_id=None)),
        line(95, words),
        delta(100, bytes(48_000)),
        Played(t_us=600_000, items=[PlayedItem(item_id="a", played_ms=500, written_ms=1000)]),
    ]
    cut_off = Timeline.of(lines)
    assert cut_off.assistant[0].heard_ms == 500
    assert cut_off.said[0].heard_text == "one two three four"
    hung_up = Timeline.of([*lines, Ended(t_us=600_000)])
    assert hung_up.said[0].heard_text == "one two"


def test_nothing_at_all() -> None:
    """A recording of a header, or of nothing."""
    assert Timeline.of([HEADER]).said == []
    assert Timeline.of([]).end_ms == 0


def _frame(found: Line) -> bytes:
    return bytes(found.frame) if isinstance(found, Received | Sent) else b""


def _of_playback(found: Line) -> bool:
    name = getattr(found, "type", "")
    return isinstance(found, Played | Flushed) or name.startswith("bus.playback")


def test_what_was_over_before_the_silence_began_when_it_was_told_to() -> None:
    """A flush of what had been heard to its end says nothing of when that was."""
    timeline = Timeline.of(
        [
            HEADER,
            created(0),
            delta(1000, bytes(48 * 200)),
            Told(t_us=1_000_000, type="bus.playback_started", event={"item_id": "a"}),
            line(1800, ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u")),
            Flushed(t_us=1_800_000, items=[PlayedItem(item_id="a", played_ms=200, written_ms=200)]),
            Ended(t_us=5_000_000),
        ]
    )
    [audio] = timeline.assistant
    assert [(piece.at_ms, piece.length_ms) for piece in audio.heard] == [(1000, 200)]
