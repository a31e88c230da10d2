"""What the provider's messages come to, in order and out of it, well-formed and not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from realtime_bus.audio import bytes_per_ms
from realtime_bus.events import AudioPCM, AudioPCMA, AudioPCMU
from realtime_bus_plugins._telephony import Line, Stopped
from realtime_bus_plugins.telephony import (
    PLIVO,
    TELNYX,
    TWILIO,
    VONAGE,
    CallStalled,
    DtmfReceived,
    LineProblem,
    StreamFormat,
)

from ._ear import PLIVO_START, STARTS, TELNYX_START, VONAGE_START, mark_back, read_sent
from ._phone import CALL_SID, STREAM_SID, connected, dtmf, mark, media, started, stopped


def begun(stream_format: StreamFormat = TWILIO) -> Line:
    """Return a line whose call has begun."""
    line = Line(stream_format)
    assert list(line.receive(json.dumps(STARTS[stream_format.name][1]))) == []
    return line


def receive(line: Line, *messages: Any) -> list[Any]:
    """Let a line read messages; return what they come to."""
    found: list[Any] = []
    for message in messages:
        text = message if isinstance(message, str | bytes) else json.dumps(message)
        found += line.receive(text)
    return found


def chunks(*numbers: int) -> list[Any]:
    """Return the caller's audio, each frame filled with its number."""
    return [media(bytes([number % 256]) * 160, number) for number in numbers]


def heard(found: list[Any]) -> list[int]:
    """Return the numbers of the caller's audio that was passed on."""
    return [each[0] for each in found if isinstance(each, bytes)]


def problems(found: list[Any]) -> list[str]:
    """Return what was told to be wrong."""
    return [each.kind for each in found if isinstance(each, LineProblem)]


# --- what each provider says


def test_a_call_of_twilio() -> None:
    """Who calls, what it takes along, what is said and pressed, and the end."""
    line = Line(TWILIO)
    assert receive(line, connected(), started(language="en")) == []
    assert line.call is not None
    assert line.call.provider == "Twilio"
    assert (line.call.stream_id, line.call.call_id) == (STREAM_SID, CALL_SID)
    assert line.call.parameters == {"language": "en"}
    assert line.call.input_format == line.call.output_format == AudioPCMU()
    found = receive(line, media(b"\x7f" * 160, 1), dtmf("#"), stopped())
    assert found == [b"\x7f" * 160, DtmfReceived(digit="#"), Stopped()]


def test_a_call_of_telnyx() -> None:
    """A-law comes as A-law; what it complains about is told; only the caller is listened to."""
    line = begun(TELNYX)
    assert line.call is not None
    assert (line.call.stream_id, line.call.call_id) == (STREAM_SID, CALL_SID)
    assert line.call.parameters == {"customer_id": "c1"}
    assert line.call.input_format == AudioPCMA()
    speech = {"event": "media", "sequence_number": "4", "stream_id": STREAM_SID}
    speech["media"] = {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": "1dXV1Q=="}
    ours = {**speech, "media": {**speech["media"], "track": "outbound", "chunk": "2"}}
    key = {"event": "dtmf", "occurred_at": "2025-06-05T08:54:19.698408Z", "dtmf": {"digit": "1"}}
    error = {
        "event": "error",
        "payload": {"code": 100002, "title": "malformed_frame", "detail": "bad"},
    }
    found = receive(line, speech, ours, key, error, {"event": "stop", "stop": {}})
    assert found[:2] == [b"\xd5" * 4, DtmfReceived(digit="1")]
    assert found[2].kind == "provider"
    assert "malformed_frame" in found[2].detail
    assert found[3] == Stopped()


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000])
def test_a_call_of_vonage(rate: int) -> None:
    """Audio is binary, what was taken along stands in the first message itself."""
    line = Line(VONAGE)
    start = {**VONAGE_START, "content-type": f"audio/l16;rate={rate}", "language": "en-GB"}
    assert receive(line, start) == []
    assert line.call is not None
    assert line.call.parameters == {"customer_id": "c1", "language": "en-GB"}
    assert line.call.output_format == AudioPCM(rate=rate)
    key = {"event": "websocket:dtmf", "digit": "5", "duration": 260}
    frame = bytes(rate // 50 * 2)
    found = receive(line, frame, key, {"event": "websocket:cleared"})
    assert found == [frame, DtmfReceived(digit="5")]
    line.playout.play(bytes(len(frame) * 2), "a", 0, 40)
    assert [line.playout.next_message(), line.playout.next_message()] == [
        frame,
        '{"action":"notify","payload":{"mark":"1"}}',
    ]


def test_a_call_of_plivo() -> None:
    """Parameters are one text; marks are called checkpoints, and come back by another name."""
    line = begun(PLIVO)
    assert line.call is not None
    assert line.call.parameters == {"customer_id": "c1", "language": "en"}
    line.playout.play(bytes(160), "a", 0, 20)
    sent = [json.loads(line.playout.next_message() or "") for _ in range(2)]
    assert sent[0]["event"] == "playAudio"
    assert sent[0]["media"]["contentType"] == "audio/x-mulaw"
    assert sent[1] == {"event": "checkpoint", "streamId": STREAM_SID, "name": "1"}
    [played] = receive(line, {"event": "playedStream", "streamId": STREAM_SID, "name": "1"})
    assert played.positions == [("a", 0, 20)]
    speech = {"event": "media", "sequenceNumber": 42, "media": {"track": "inbound", "chunk": 41}}
    speech["media"]["payload"] = "/////w=="
    assert receive(line, speech) == [b"\xff" * 4]


@pytest.mark.parametrize(
    "written", ["a=1;b=2", "a=1,b=2", "a=1; b = 2;", '{"a": 1, "b": "2"}', {"a": "1", "b": 2}]
)
def test_plivos_parameters_however_they_are_written(written: Any) -> None:
    """Its pages show two ways, its client library a third."""
    line = Line(PLIVO)
    receive(line, {**PLIVO_START, "extra_headers": written})
    assert line.call is not None
    assert line.call.parameters == {"a": "1", "b": "2"}


@pytest.mark.parametrize("written", ["", "{}", "[1]", "null", 7, None])
def test_plivos_parameters_that_are_none(written: Any) -> None:
    """Nothing is made up, and the call begins."""
    line = Line(PLIVO)
    receive(line, {**PLIVO_START, "extra_headers": written})
    assert line.call is not None
    assert line.call.parameters == {}


def test_vonages_parameters_that_are_no_text() -> None:
    """Its documentation's own: what an NCCO's headers hold is handed on as JSON."""
    line = Line(VONAGE)
    taken = {"age": 40, "address": {"city": "New York City"}, "roles": [1, 2], "audited": False}
    receive(line, {**VONAGE_START, **taken})
    assert line.call is not None
    assert {name: line.call.parameters[name] for name in taken} == {
        "age": "40",
        "address": '{"city":"New York City"}',
        "roles": "[1,2]",
        "audited": "false",
    }


def test_what_twilio_is_sent() -> None:
    """Media, mark and clear, each with the stream's id; an id is only ever data."""
    line = Line(TWILIO)
    odd = 'MZ"{audio}{mark}\\{stream_id}'
    receive(line, {"event": "start", "start": {"streamSid": odd}})
    line.playout.play(b"\xfe" * 160, "a", 0, 20)
    sent = [json.loads(line.playout.next_message() or "") for _ in range(2)]
    line.playout.clear()
    sent.append(json.loads(line.playout.next_message() or ""))
    assert {each["streamSid"] for each in sent} == {odd}
    assert [each["event"] for each in sent] == ["media", "mark", "clear"]
    assert sent[0]["media"]["payload"].startswith("/v7+")
    assert sent[1]["mark"] == {"name": "1"}


def test_a_format_of_ones_own_is_data() -> None:
    """A relative of Twilio's, with other words in other places."""
    relative = StreamFormat(
        name="Relative",
        kinds={"begin": "start", "sound": "media", "done": "mark", "bye": "stop"},
        stream_id=("id",),
        call_id=None,
        parameters=("with",),
        encoding=("codec",),
        encodings={"alaw": AudioPCMA()},
        payload=("data",),
        mark=("label",),
        digit=("key",),
        send_audio={"do": "say", "data": "{audio}"},
        send_mark={"do": "label", "label": "{mark}", "of": ["{stream_id}", 7]},
        send_clear={"do": "hush"},
    )
    line = Line(relative)
    begin = {"event": "begin", "id": "x", "codec": "alaw", "with": {"a": 1}}
    found = receive(line, begin, {"event": "sound", "data": "1dU="}, {"event": "bye"})
    assert found == [b"\xd5\xd5", Stopped()]
    assert line.call is not None
    assert line.call.parameters == {"a": "1"}
    line.playout.play(bytes(160), "a", 0, 20)
    assert json.loads(line.playout.next_message() or "")["do"] == "say"
    assert json.loads(line.playout.next_message() or "") == {
        "do": "label",
        "label": "1",
        "of": ["x", 7],
    }


# --- order


def test_the_callers_audio_is_put_in_order() -> None:
    """What overtook the one before it waits for it."""
    found = receive(begun(), *chunks(1, 2, 4, 3, 7, 6, 5, 8))
    assert heard(found) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert problems(found) == []


def test_missing_audio_is_given_up_after_three_messages() -> None:
    """A gap is told, and costs 60 ms of waiting once."""
    line = begun()
    found = receive(line, *chunks(1, 2, 4, 5, 6))
    assert heard(found) == [1, 2]
    found = receive(line, *chunks(7, 8))
    assert heard(found) == [4, 5, 6, 7, 8]
    assert problems(found) == ["out_of_order"]
    assert found[0].detail == "audio 3 to 3 is missing"


def test_late_and_repeated_audio_is_dropped_and_told() -> None:
    """Nobody hears a syllable twice."""
    found = receive(begun(), *chunks(1, 2, 2, 3, 1, 4))
    assert heard(found) == [1, 2, 3, 4]
    assert problems(found) == ["out_of_order", "out_of_order"]


@pytest.mark.parametrize("odd", [10**9, 200, -5, 0])
def test_one_odd_number_never_makes_the_line_deaf(odd: int) -> None:
    """A number out of nowhere, or a count that begins anew, costs some frames at most."""
    wild = media(b"\xaa" * 160, odd)
    line = begun()
    found = receive(line, *chunks(*range(1, 50)), wild, *chunks(*range(50, 100)))
    assert heard(found).count(0xAA) <= 1
    assert len(heard(found)) > 90
    found = receive(line, *chunks(*range(1, 100)))
    assert heard(found)[-90:] == list(range(10, 100))


def test_any_order_within_reach_is_made_good() -> None:
    """Frames that are at most two places away from theirs come out in order, all of them."""
    source = random.Random(11)  # noqa: S311 - no secret
    numbers = sorted(range(1, 250), key=lambda number: number + source.random() * 3)
    numbers.remove(1)
    found = receive(begun(), *chunks(1, *numbers))
    assert heard(found) == list(range(1, 250))


def test_audio_without_numbers_is_taken_as_it_comes() -> None:
    """A provider that leaves them out, or writes something else there."""
    messages = [media(b"\x01" * 160, 1), media(b"\x02" * 160, 1), media(b"\x03" * 160, 1)]
    for message, odd in zip(messages, [None, "x", "9" * 5000], strict=True):
        message["media"]["chunk"] = odd
    assert heard(receive(begun(), *messages)) == [1, 2, 3]


def test_the_other_track_is_not_the_caller() -> None:
    """Where both tracks are streamed, we would hear ourselves."""
    assert receive(begun(), media(bytes(160), 1, track="outbound")) == []


# --- out of place


def test_nothing_counts_before_the_call_has_begun() -> None:
    """Audio is told and dropped, keys and the end are what they are."""
    line = Line(TWILIO)
    found = receive(line, media(bytes(160), 1), mark("1"), connected())
    assert problems(found) == ["unexpected"]
    assert len(found) == 1
    assert line.call is None


def test_a_second_start_changes_nothing() -> None:
    """Neither who calls nor what was sent is forgotten."""
    line = begun()
    call = line.call
    line.playout.play(bytes(160), "a", 0, 20)
    found = receive(line, started(customer_id="another"))
    assert problems(found) == ["unexpected"]
    assert line.call is call
    assert line.playout.next_message() is not None


@pytest.mark.parametrize(
    ("stream_format", "start"),
    [
        (TELNYX, {**TELNYX_START, "start": {"media_format": {"encoding": "OPUS"}}}),
        (VONAGE, {**VONAGE_START, "content-type": "audio/l16;rate=44100"}),
        (TWILIO, {"event": "start", "start": {"mediaFormat": {"encoding": ["a"]}}}),
        (PLIVO, {"event": "start", "start": {"mediaFormat": {"encoding": "audio/x-mulaw"}}}),
    ],
)
def test_an_encoding_that_is_not_known_is_refused(
    stream_format: StreamFormat, start: dict[str, Any]
) -> None:
    """Noise in the caller's ear would be worse: it is said what came and what is known."""
    line = Line(stream_format)
    assert problems(receive(line, start)) == ["unexpected"]
    assert line.call is None
    assert line.refused is not None
    assert "known are" in line.refused


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"start"',
        "\ud800",
        b"\xff\xfe",
        "[" * 60_000,
        '{"a":' * 10_000,
        '{"event":"media"}',
        '{"event":"media","media":7}',
        '{"event":"media","media":{"payload":null}}',
        '{"event":"media","media":{"payload":"***"}}',
        '{"event":"media","media":{"payload":"abc"}}',
        '{"event":"media","media":{"payload":["AAAA"]}}',
        '{"event":"dtmf","dtmf":{"digit":""}}',
        '{"event":"dtmf","dtmf":{"digit":"12"}}',
        '{"event":"dtmf","dtmf":[]}',
    ],
)
def test_what_cannot_be_read_is_told_and_harms_nobody(message: str | bytes) -> None:
    """The next message is read as if nothing had happened."""
    line = begun()
    [told] = receive(line, message)
    assert (told.kind, told.count) == ("malformed", 1)
    assert len(told.detail) < 200
    assert heard(receive(line, *chunks(1))) == [1]


@pytest.mark.parametrize(
    "message",
    [
        {"event": "mystery"},
        {"event": ["start"]},
        {"event": None},
        {},
        {"event": "mark"},
        {"event": "mark", "mark": {"name": ["1"]}},
        {"event": "connected", "protocol": 9},
    ],
)
def test_unknown_words_are_ignored(message: dict[str, Any]) -> None:
    """A provider may say more tomorrow."""
    assert receive(begun(), message) == []


def test_a_huge_message_is_not_read() -> None:
    """One of a megabyte costs next to nothing, and the next one counts."""
    line = begun()
    found = receive(line, media(bytes(1_000_000), 1), *chunks(1))
    assert problems(found) == ["too_large"]
    assert heard(found) == [1]


def test_binary_messages_are_read_as_text_where_audio_is_text() -> None:
    """Some servers hand on text as bytes."""
    assert heard(receive(begun(), json.dumps(chunks(1)[0]).encode())) == [1]


def test_problems_are_counted_by_kind() -> None:
    """So that whoever is told of some of them knows how many there were."""
    found = receive(begun(), "{", "{", media(bytes(70_000), 1), "{")
    assert [(each.kind, each.count) for each in found] == [
        ("malformed", 1),
        ("malformed", 2),
        ("too_large", 1),
        ("malformed", 3),
    ]


@pytest.mark.parametrize("stream_format", [TWILIO, TELNYX, VONAGE, PLIVO], ids=lambda f: f.name)
def test_ten_times_the_pace_and_any_noise_harm_nobody(stream_format: StreamFormat) -> None:
    """A burst of everything at once, shuffled, with rubbish: nothing raises."""
    source = random.Random(stream_format.name)  # noqa: S311 - no secret
    line = begun(stream_format)
    words = [*stream_format.kinds, "nonsense"]
    for number in range(2000):
        message: Any = {
            "event": source.choice(words),
            "media": {"payload": source.choice(["AAAA", 7, None]), "chunk": source.randint(0, 99)},
            "mark": source.choice([{"name": str(number)}, None, []]),
            "dtmf": source.choice([{"digit": "1"}, "1", None]),
            "start": source.choice([None, {}, {"streamSid": "x"}]),
            "payload": source.choice([None, {"mark": "1"}]),
        }
        receive(line, source.choice([message, source.randbytes(20), json.dumps(message)[:30]]))
        line.playout.play(source.randbytes(source.randint(0, 400)), "a", 0, number)
        if source.random() < 0.05:
            line.playout.clear()
        list(line.tick())
        while source.random() < 0.9 and line.playout.next_message() is not None:
            pass


# --- time


def test_a_line_that_falls_silent_is_told_once() -> None:
    """After 5 s without a message, and again after the next silence."""
    now_s = 100.0
    line = Line(TWILIO, clock=lambda: now_s)
    receive(line, started())
    now_s += 4.9
    assert list(line.tick()) == []
    now_s += 0.2
    [stalled] = line.tick()
    assert isinstance(stalled, CallStalled)
    assert 5 <= stalled.silent_s < 5.2
    now_s += 60
    assert list(line.tick()) == []
    assert heard(receive(line, *chunks(1))) == [1]
    now_s += 5
    assert [type(each) for each in line.tick()] == [CallStalled]


def test_memory_is_bounded_by_what_is_not_played() -> None:
    """An hour of talk leaves nothing behind."""
    line = begun()
    for number in range(2000):
        line.playout.play(bytes(160), f"item{number}", 0, 20)
        while line.playout.next_message() is not None:
            pass
        receive(line, mark(str(number + 1)))
        receive(line, *chunks(number + 1))
    kept = [*vars(line).values(), *vars(line.playout).values()]
    kept = [each for each in kept if not isinstance(each, str)]
    sizes = [len(each) for each in kept if hasattr(each, "__len__")]
    assert max(sizes) < 20


def paths(message: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where in a message something stands: the keys, from the outside in."""
    for key, value in message.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from paths(value, (*before, key))


WRONG = (None, True, -1, 1.5, 10**30, "", "x" * 5000, "9" * 5000, [], [[]], {}, {"a": {}})
SAID = (media(b"\xff" * 160, 1), mark("1"), dtmf("5"), stopped(), {"event": "error", "payload": 1})


@pytest.mark.parametrize(("stream_format", "start"), STARTS.values(), ids=STARTS)
def test_whatever_stands_in_a_message_nothing_raises(
    stream_format: StreamFormat, start: dict[str, Any]
) -> None:
    """Each field of each message, in turn, is each kind of thing that it should not be."""
    says = [json.loads(mark_back(stream_format, "1")), {"event": "websocket:dtmf", "digit": "5"}]
    for message in (start, *SAID, *says):
        for path in paths(message):
            for wrong in WRONG:
                changed = json.loads(json.dumps(message))
                inner = changed
                for key in path[:-1]:
                    inner = inner[key]
                inner[path[-1]] = wrong
                line = Line(stream_format)
                if message is not start:
                    receive(line, start)
                receive(line, changed, media(b"\xff", 2), bytes(2))
                if line.playout is not None:
                    line.playout.play(bytes(1920), "item", 0, 40)
                    read_sent(line.playout.next_message() or "")


def test_half_a_sample_is_not_passed_on() -> None:
    """All that follows would be noise."""
    line = begun(VONAGE)
    assert problems(receive(line, bytes(959))) == ["malformed"]
    assert receive(line, bytes(960)) == [bytes(960)]
    assert receive(begun(TWILIO), media(b"\xff" * 3, 1)) == [b"\xff" * 3]


def test_parameters_are_bounded() -> None:
    """What a stream takes along is text, and not endless."""
    line = Line(TWILIO)
    receive(line, started(**{f"p{number}": "x" for number in range(500)}))
    assert line.call is not None
    assert len(line.call.parameters) == 64
    assert bytes_per_ms(line.call.input_format) == 8
