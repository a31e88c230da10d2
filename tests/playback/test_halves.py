"""One half of a recording against whoever is the other half now: the pure machine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus.recording import Received, Sent
from realtime_bus.recording._connections import read_connections
from realtime_bus.recording._halves import Half

from ._tape import audio, event, frames, halves, tape

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


def play(server: Half, client: Half) -> tuple[list[bytes], list[bytes]]:
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
