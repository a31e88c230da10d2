"""One half of a recording against whoever is the other half now: the pure machine."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_bus.recording import Received, Sent
from realtime_bus.recording._halves._connections import read_connections
from realtime_bus.recording._halves._half import Half

from ._conversations import conversations
from ._tape import SESSION, audio, event, frames, halves, tape

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}


def response(number: int, *, status: str = "in_progress", **fields: Any) -> dict[str, Any]:
    """Return the fields of ``response.created`` and ``response.done``."""
    return {"response": {"id": f"resp_{number}", "status": status, "output": [], **fields}}


def deltas(number: int, count: int = 3) -> list[Any]:
    """Return a response's audio."""
    fields = {"response_id": f"resp_{number}", "item_id": f"item_r{number}", "content_index": 0}
    return [
        ("s response.output_audio.delta", {**fields, "output_index": 0, "delta": f"AAA{k}"})
        for k in range(count)
    ]


CONVERSATION = [
    "s session.created",
    ("c session.update", {"event_id": "e1", "session": {"type": "realtime", "voice": "cedar"}}),
    ("s session.updated", {"session": {"type": "realtime", "id": "sess_1", "voice": "cedar"}}),
    ("c conversation.item.create", {"event_id": "e2", "item": USER}),
    ("c response.create", {"event_id": "e3", "response": {"metadata": {"mark": "e3"}}}),
    ("s conversation.item.added", {"item": {"id": "item_1", **USER}}),
    ("s conversation.item.done", {"item": {"id": "item_1", **USER}}),
    ("s response.created", response(1, metadata={"mark": "e3"})),
    *deltas(1),
    ("c input_audio_buffer.append", audio(200)),
    ("c input_audio_buffer.append", audio(200)),
    ("s input_audio_buffer.speech_started", {"audio_start_ms": 250, "item_id": "item_2"}),
    ("c conversation.item.truncate", {"item_id": "item_r1", "content_index": 0, "audio_end_ms": 9}),
    ("s response.done", response(1, status="cancelled", metadata={"mark": "e3"})),
    (
        "s conversation.item.truncated",
        {"item_id": "item_r1", "content_index": 0, "audio_end_ms": 9},
    ),
    ("c response.cancel", {"event_id": "e4"}),
    ("s error", {"error": {"type": "x", "message": "nothing to cancel", "event_id": "e4"}}),
]
SERVER = frames(tape(*CONVERSATION), Received)
CLIENT = frames(tape(*CONVERSATION), Sent)


def play(server: Half, client: Half, *, within_s: float = 1e9) -> tuple[list[bytes], list[bytes]]:
    """Play both halves against each other to the end; return what each has said."""
    now_s, said, asked = 0.0, list[bytes](), list[bytes]()
    while not (server.finished and client.finished):
        for frame in server.due(now_s):
            said.append(frame)
            client.see(frame, now_s)
        for frame in client.due(now_s):
            asked.append(frame)
            server.see(frame, now_s)
        deadlines = [at for half in (server, client) if (at := half.next_deadline()) is not None]
        if deadlines:
            now_s = max(now_s, min(deadlines))
    assert now_s <= within_s
    return said, asked


def test_two_halves_of_one_recording_are_the_recording() -> None:
    """Each side says what it said, in the order and at the time in which it said it."""
    server, client = halves(tape(*CONVERSATION))
    assert play(server, client) == (SERVER, CLIENT)
    assert server.all_deviations() == client.all_deviations() == []


def test_nothing_waits_for_the_clock_at_infinite_pace() -> None:
    """All is said at the same moment, in the same order."""
    server, client = halves(tape(*CONVERSATION), pace=float("inf"))
    said: list[bytes] = []
    for _ in range(len(CONVERSATION)):
        said += (new := server.due(0.0))
        for frame in new:
            client.see(frame, 0.0)
        for frame in client.due(0.0):
            server.see(frame, 0.0)
    assert said == SERVER


@settings(max_examples=40)
@given(entries=conversations(), pace=st.sampled_from([1.0, 7.0, float("inf")]))
def test_any_conversation_is_played_by_its_two_halves(entries: list[Any], pace: float) -> None:
    """Whatever was said, and however it overlapped: the same frames in the same order."""
    lines = tape(*entries)
    server, client = halves(lines, pace=pace)
    said, asked = play(server, client, within_s=lines[-1].t_us / 1e6 / pace + 1e-6)
    assert said == frames(lines, Received)
    assert asked == frames(lines, Sent)
    assert server.all_deviations() == client.all_deviations() == []


@settings(max_examples=40)
@given(data=st.data())
def test_no_frame_is_lost_doubled_or_stuck_whenever_the_client_acts(data: st.DataObject) -> None:
    """The client does the same in another order and at other times: all of it is answered."""
    server, _ = halves(tape(*CONVERSATION), patience_s=2.0)
    asked = data.draw(st.permutations(CLIENT))
    pauses = data.draw(st.lists(st.floats(0, 3), min_size=len(asked), max_size=len(asked)))
    said, now_s = list[bytes](), 0.0
    for frame, pause_s in zip(asked, pauses, strict=True):
        until_s = now_s + pause_s
        while (at_s := server.next_deadline()) is not None and at_s <= until_s:
            now_s = max(now_s, at_s)
            said += server.due(now_s)
        now_s = until_s
        server.see(frame, now_s)
    while not server.finished:
        at_s = server.next_deadline()
        assert at_s is not None
        now_s = max(now_s, at_s)
        said += server.due(now_s)
    if server.parted:
        assert said == [frame for frame in SERVER if frame in said] or len(said) < len(SERVER)
    else:
        assert sorted(said) == sorted(SERVER)
    assert len(set(said)) == len(said)


def ids(value: Any, change: Any) -> Any:
    """Return an event with other ids."""
    names = {"id", "item_id", "response_id", "call_id", "previous_item_id"}
    if isinstance(value, dict):
        members: dict[str, Any] = {**value}
        return {
            name: change(member) if name in names else ids(member, change)
            for name, member in members.items()
        }
    return value


def test_a_driven_server_may_give_other_ids() -> None:
    """Commands that name the server's items name those of today."""
    _, client = halves(tape(*CONVERSATION))
    asked, now_s = list[bytes](), 0.0
    answers = [msgspec.json.encode(ids(event(f), "{}_now".format)) for f in SERVER]
    for frame in answers:
        client.see(frame, now_s)
    while not client.finished:
        now_s = max(now_s, client.next_deadline() or 0.0)
        asked += client.due(now_s)
    truncation = next(e for e in map(event, asked) if e["type"] == "conversation.item.truncate")
    assert truncation["item_id"] == "item_r1_now"
    assert client.all_deviations() == []


@pytest.mark.parametrize("code", [1011, 1006, 4000])
def test_the_servers_end_comes_behind_the_last_frame(code: int) -> None:
    """What ended the connection then ends it now."""
    server, client = halves(tape("s session.created", *deltas(1), b"{broken", close=code))
    said, _ = play(server, client)
    assert said[-1] == b"{broken"
    assert server.ended
    assert not client.ended


def test_audio_that_was_left_out_is_silence_of_the_same_length() -> None:
    """A recording without audio plays, and is as long."""
    raw = msgspec.Raw(b'{"type":"response.output_audio.delta","delta":""}')
    line = Received(t_us=5, frame=raw, audio_bytes=9600)
    (connection,) = read_connections([*tape("s session.created", close=None), line], "server")
    server = Half(connection, "server", now_s=0.0)
    assert len(event(server.due(9.0)[1])["delta"]) == 9600 * 4 // 3


def answered(lines: list[Any], *live: dict[str, Any]) -> list[dict[str, Any]]:
    """Play the server's half to a client that says this; return what it is told."""
    server, _ = halves(tape("s session.created", *lines), pace=float("inf"), patience_s=1.0)
    told = [event(frame) for frame in server.due(0.0)]
    for number, command in enumerate(live):
        server.see(msgspec.json.encode(command), number)
        told += [event(frame) for frame in server.due(number)]
    return told[1:]


def create(item: dict[str, Any]) -> dict[str, Any]:
    """Return a command that adds an item."""
    return {"type": "conversation.item.create", "item": item}


def test_an_item_that_the_live_client_has_named_keeps_its_name() -> None:
    """The recorded server named it; every frame about it names it as the client does now."""
    added = {"id": "item_then", **USER}
    said = [
        ("c conversation.item.create", {"item": USER}),
        ("s conversation.item.added", {"item": added}),
        ("s conversation.item.done", {"item": added, "previous_item_id": None}),
        ("s conversation.item.added", {"item": {"id": "b"}, "previous_item_id": "item_then"}),
    ]
    told = answered(said, create({"id": "mine", **USER}))
    assert [each["item"]["id"] for each in told] == ["mine", "mine", "b"]
    assert told[2]["previous_item_id"] == "mine"
    assert answered(said, create(USER))[0]["item"]["id"] == "item_then"


def test_a_client_that_had_named_its_item_may_name_it_otherwise() -> None:
    """The id of today stands where that of then stood."""
    said = [
        ("c conversation.item.create", {"item": {"id": "a", **USER}}),
        ("s conversation.item.added", {"item": {"id": "a", **USER}}),
        ("c conversation.item.delete", {"item_id": "a"}),
        ("s conversation.item.deleted", {"item_id": "a"}),
    ]
    deletion = {"type": "conversation.item.delete", "item_id": "today"}
    told = answered(said, create({"id": "today", **USER}), deletion)
    assert [told[0]["item"]["id"], told[1]["item_id"]] == ["today", "today"]


@pytest.mark.parametrize("then", [{"mark": "then"}, None])
def test_metadata_is_repeated_from_the_live_command(then: dict[str, str] | None) -> None:
    """As the recorded server repeated what the recorded client had sent, in both events."""
    asked = {} if then is None else {"response": {"metadata": then}}
    said = [
        ("c response.create", asked),
        ("s response.created", response(1, metadata=then)),
        ("s response.done", response(1, status="completed", metadata=then)),
    ]
    live = {"type": "response.create", "response": {"metadata": {"mark": "now"}}}
    assert [each["response"]["metadata"] for each in answered(said, live)] == [{"mark": "now"}] * 2


def test_a_server_that_repeated_no_metadata_does_not() -> None:
    """It was a dialect, and stays one."""
    said = [
        ("c response.create", {"response": {"metadata": {"mark": "then"}}}),
        ("s response.created", response(1, metadata=None)),
    ]
    live = {"type": "response.create", "response": {"metadata": {"mark": "now"}}}
    (created,) = answered(said, live)
    assert created["response"]["metadata"] is None


def test_a_response_of_the_servers_own_is_not_taken_for_the_one_that_was_refused() -> None:
    """The create that lost the race is answered by its error; the response waits for nobody."""
    refused = {"code": "conversation_already_has_active_response", "event_id": "e1"}
    said = [
        ("c response.create", {"event_id": "e1"}),
        ("s response.created", response(1)),
        ("s error", {"error": refused}),
    ]
    assert [each["type"] for each in answered(said)] == ["response.created"]
    told = answered(said, {"type": "response.create", "event_id": "today"})
    assert [each["type"] for each in told] == ["response.created", "error"]
    assert told[1]["error"]["event_id"] == "today"


def test_a_cut_elsewhere_is_confirmed_where_it_was_made() -> None:
    """The confirmation says what the live client asked for; 50 ms are no deviation."""
    cut = {"item_id": "item_r1", "content_index": 0, "audio_end_ms": 900}
    said = [
        *deltas(1),
        ("c conversation.item.truncate", cut),
        ("s conversation.item.truncated", cut),
    ]
    server, _ = halves(tape("s session.created", *said), pace=float("inf"))
    server.due(0.0)
    server.see(
        msgspec.json.encode({"type": "conversation.item.truncate", **cut, "audio_end_ms": 850}), 0.0
    )
    (told,) = server.due(0.0)
    assert event(told)["audio_end_ms"] == 850
    assert server.all_deviations() == []


def test_a_session_that_was_opened_long_ago_has_its_full_life() -> None:
    """``expires_at`` moves with the day; else the client would reconnect at once."""
    lines = tape("s session.created", ("s session.updated", {"session": {"expires_at": 1000}}))
    server, _ = halves(lines, pace=float("inf"), later_s=500)
    assert event(server.due(0.0)[1])["session"]["expires_at"] == 1500


def test_texts_that_were_left_out_are_any_text() -> None:
    """A recording without texts still knows which command was which."""
    item = {**USER, "content": [{"type": "input_text", "text": "xx"}]}
    said = [
        ("c conversation.item.create", {"item": item}),
        ("s conversation.item.added", {"item": {"id": "a", **item}}),
    ]
    (told,) = answered(said, create(USER))
    assert told["item"]["content"] == USER["content"]


DEEP = b'{"type":"conversation.item.create","item":' + b"[" * 500 + b"]" * 500 + b"}"


@pytest.mark.parametrize(
    "frame",
    [
        DEEP,
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"type":5}',
        b'{"type":["a"]}',
        b'{"type":"response.create","response":[]}',
        b'{"type":"conversation.item.create","item":"x"}',
        b'{"type":"conversation.item.truncate","item_id":{"a":1}}',
        b'{"type":"input_audio_buffer.append","audio":7}',
        b'{"type":"session.update","session":{"audio":{"input":{"format":7}}}}',
    ],
    ids=repr,
)
@pytest.mark.parametrize("side", ["server", "client"])
def test_nothing_that_is_sent_or_was_recorded_breaks_a_half(frame: bytes, side: str) -> None:
    """Neither as a live frame nor as a recorded one, on either side."""
    server, client = halves(tape(*CONVERSATION))
    for half in (server, client):
        half.see(frame, 0.0)
        half.due(1e6)
        assert half.report(0).deviations
    raw = msgspec.Raw(frame) if frame.startswith(b"{") else None
    kind = Received if side == "server" else Sent
    line = kind(t_us=50, frame=raw) if raw else kind(t_us=50, broken=b64encode(frame).decode())
    lines = [*tape("s session.created", close=None), line, *tape(*CONVERSATION)[1:]]
    server, client = halves(lines)
    said, asked = play(server, client)
    assert (frame in said) or (frame in asked)


def see(half: Half, now_s: float, kind: str, **fields: Any) -> None:
    """Have the live peer say something."""
    half.see(msgspec.json.encode({"type": kind, **fields}), now_s)


def types(told: list[bytes]) -> list[str]:
    """Return the types of frames."""
    return [event(frame)["type"] for frame in told]


def test_what_is_done_to_another_item_is_something_else() -> None:
    """A deletion of one of the server's items is not that of another, whatever the order."""
    added = [("s conversation.item.added", {"item": {"id": name}}) for name in ("one", "two")]
    deleted = ("s conversation.item.deleted", {"item_id": "two"})
    said = [*added, ("c conversation.item.delete", {"item_id": "two"}), deleted]
    server, _ = halves(tape(*said), pace=float("inf"))
    server.due(0.0)
    see(server, 0.0, "conversation.item.delete", item_id="one")
    assert server.due(0.0) == []
    assert [each.kind for each in server.all_deviations()] == ["unexpected", "missing"]
    see(server, 0.0, "conversation.item.delete", item_id="two")
    assert types(server.due(0.0)) == ["conversation.item.deleted"]


def test_a_command_that_was_passed_over_holds_nothing_up() -> None:
    """Its answer waits for it alone; what comes behind goes on at once, and it may come later."""
    said: list[Any] = [
        ("c session.update", {"session": {}}),
        ("s session.updated", {"session": {}}),
        ("c input_audio_buffer.clear", {}),
        ("s input_audio_buffer.cleared", {}),
        *deltas(1),
    ]
    server, _ = halves(tape("s session.created", *said), pace=float("inf"), patience_s=60)
    assert types(server.due(0.0)) == ["session.created"]
    see(server, 1.0, "input_audio_buffer.clear")
    assert len(server.due(1.0)) == 4
    assert [each.kind for each in server.all_deviations()] == ["missing", "left_out"]
    see(server, 2.0, "session.update", session={})
    assert types(server.due(2.0)) == ["session.updated"]
    assert [each.kind for each in server.all_deviations()] == ["order"]


def test_speech_that_begins_later_has_what_follows_it_as_long_after_it() -> None:
    """The microphone decides when; the frames behind keep their distance."""
    started = ("s input_audio_buffer.speech_started", {"item_id": "u"})
    said = [("c input_audio_buffer.append", audio(100)), started, *deltas(1, 1)]
    server, _ = halves(tape("s session.created", *said))
    server.due(0.0)
    assert server.due(5.0) == []
    see(server, 5.0, "input_audio_buffer.append", **audio(60))
    assert server.due(5.0) == []
    see(server, 6.0, "input_audio_buffer.append", **audio(60))
    assert types(server.due(6.0)) == ["input_audio_buffer.speech_started"]
    assert server.next_deadline() == pytest.approx(6.1)
    assert len(server.due(6.11)) == 1


def test_a_client_waits_for_what_had_happened_and_a_microphone_a_little_less() -> None:
    """A text waits for the end of the answer; half a second of audio may go ahead of it."""
    append = ("c input_audio_buffer.append", audio(100))
    said = [("s response.done", response(1)), *[append] * 10, create_entry("Next.")]
    _, client = halves(tape("s session.created", *said), patience_s=3600.0)
    see(client, 0.0, "session.created", session=SESSION)
    assert len(client.due(600.0)) == 5
    assert client.silence(20) is not None
    see(client, 600.0, "response.done", **response(1))
    assert client.silence(20) is None
    assert types(client.due(700.0))[-1] == "conversation.item.create"


def create_entry(text: str) -> Any:
    """Return what asks something in a text."""
    item = {**USER, "content": [{"type": "input_text", "text": text}]}
    return ("c conversation.item.create", {"item": item})


def test_a_server_that_has_said_something_later_is_hoped_for_no_longer_than_a_second() -> None:
    """No transcript comes, but the answer does: the next command waits for it and one second."""
    completed = ("s conversation.item.input_audio_transcription.completed", {"item_id": "u"})
    done = ("s response.done", response(1))
    said = [create_entry("One."), done, completed, create_entry("Two."), "s session.updated"]
    _, client = halves(tape(*said), patience_s=100.0)
    assert len(client.due(0.1)) == 1
    see(client, 1.0, "response.done", **response(1))
    assert client.due(50.0) == []
    see(client, 60.0, "session.updated")
    assert client.due(60.5) == []
    assert len(client.due(61.1)) == 1


def test_a_server_that_goes_on_with_its_answer_is_waited_for() -> None:
    """It talks for a minute longer than then: nobody talks into it."""
    said = [*deltas(1, 1), ("s response.done", response(1)), create_entry("Next.")]
    _, client = halves(tape("s session.created", *said), patience_s=5.0)
    see(client, 0.0, "session.created", session=SESSION)
    for second in range(60):
        see(client, second, deltas(1, 1)[0][0].split()[1], **deltas(1, 1)[0][1])
        assert client.due(second) == []
    see(client, 60.0, "response.done", **response(1))
    assert len(client.due(61.0)) == 1
    assert client.all_deviations() == []


@st.composite
def disturbed(draw: st.DrawFn, frames_: list[bytes]) -> list[bytes]:
    """Draw what a peer does that loses, doubles and swaps some of its frames."""
    told: list[bytes] = []
    for frame in frames_:
        told += [frame] * draw(st.sampled_from([1, 1, 1, 1, 1, 0, 2]))
    for place in draw(st.lists(st.integers(0, max(0, len(told) - 2)), max_size=5)):
        told[place : place + 2] = reversed(told[place : place + 2])
    return told


@pytest.mark.parametrize("plays", ["server", "client"])
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_a_peer_does_the_other_half_comes_to_its_end(
    plays: Any, data: st.DataObject
) -> None:
    """Each frame is played once, left out because its cause is missing, or behind the parting."""
    lines = tape(*data.draw(conversations()))
    own, others = (Received, Sent) if plays == "server" else (Sent, Received)
    half = Half(read_connections(lines, plays)[0], plays, now_s=0.0, patience_s=3.0)
    told, now_s = list[bytes](), 0.0
    for frame in data.draw(disturbed(frames(lines, others))):
        now_s += data.draw(st.sampled_from([0.0, 0.1, 4.0]))
        told += half.due(now_s)
        half.see(frame, now_s)
    for _ in range(10 * len(lines)):
        if half.finished:
            break
        now_s = max(now_s, half.next_deadline() or 0.0)
        told += half.due(now_s)
    assert half.finished
    mine = [event(frame) for frame in frames(lines, own)]
    assert half.played == len(told) <= len(mine)
    left_out = [each for each in half.all_deviations() if each.kind == "left_out"]
    assert half.parted or len(told) + len(left_out) == len(mine)
    if plays == "server":  # its ids are its own: no frame is there twice
        assert len({each["event_id"] for each in map(event, told)}) == len(told)


@pytest.mark.parametrize("pieces_before", [1, 4])
def test_a_client_that_chooses_its_format_does_not_wait_to_be_told(pieces_before: int) -> None:
    """Its audio counts in that format, though the server still says another one."""

    def session(kind: str) -> dict[str, Any]:
        audio = {"input": {"format": {"type": kind}}}
        return {"session": {"type": "realtime", "id": "sess_1", "audio": audio}}

    update = ("c session.update", {"event_id": "e1", **session("audio/pcmu")})
    piece = ("c input_audio_buffer.append", {"audio": b64encode(bytes(1600)).decode()})  # 200 ms
    lines = tape(
        "s session.created",
        update,
        *[piece] * pieces_before,
        ("s session.updated", session("audio/pcm")),  # of the time before
        ("s session.updated", session("audio/pcmu")),
        *[piece] * (4 - pieces_before),
        ("s input_audio_buffer.speech_started", {"audio_start_ms": 500, "item_id": "item_2"}),
    )
    server = Half(read_connections(lines, "server")[0], "server", now_s=0.0, pace=float("inf"))
    for frame in frames(lines, Sent):
        server.see(frame, 0.0)
    said = [event(frame)["type"] for frame in server.due(0.0)]
    assert said[-1] == "input_audio_buffer.speech_started"
    assert server.waits_for == ""
