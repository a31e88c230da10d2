"""Every queue of the server has a bound in bytes, and says what happens there."""

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pybase64
import pytest

from realtime_bus import events as ev
from realtime_bus.server import EnergyDetector, RealtimeServer, ServerOptions, Text, _session
from realtime_bus.server._protocol import RealtimeProtocol
from realtime_bus.server._session import LAGGING
from realtime_bus.server._wire import MAX_SETTINGS_BYTES, MAX_VALUES
from realtime_bus.transport import memory_transport_pair

from ._client import client_on
from ._world import World, only_error, silence, spoken, types, user_message
from .test_server import Endless, server

KIB = 1024
MIB = 1024 * KIB


def message(*, audio: int = 0, text: int = 0, image: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a client's message that brings so many bytes."""
    part: dict[str, Any] = {"type": "input_text", "text": "x" * text}
    if audio:
        part = {"type": "input_audio", "audio": pybase64.b64encode(bytes(audio)).decode()}
    if image:
        part = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * image}
    return {"type": "message", "role": "user", "content": [part], **fields}


def create(**item: Any) -> dict[str, Any]:
    """Return the event that adds a message."""
    return {"type": "conversation.item.create", "item": message(**item)}


def by_hand(world: World, **audio_input: Any) -> None:
    """Let the client commit."""
    world.update(audio={"input": {"turn_detection": None, **audio_input}})


# What a conversation keeps


def test_a_full_conversation_refuses_a_client_s_item() -> None:
    """With a code that says so, and nothing has changed; one that is deleted makes room."""
    world = World(max_kept_bytes=MIB)
    codes = [types(world.send(create(text=64 * KIB, id=f"i{n}"))) for n in range(60)]
    assert codes.count(["conversation.item.added", "conversation.item.done"]) == 15
    error = only_error(world.send(create(text=64 * KIB)))
    assert (error.code, error.param) == ("conversation_full", "item")
    world.send(ev.ConversationItemDelete(item_id="i3"))
    assert "error" not in types(world.send(create(text=64 * KIB)))


def test_audio_goes_before_anything_is_refused() -> None:
    """The oldest first; nothing but `retrieve` shows it."""
    world = World(max_kept_bytes=MIB)
    for number in range(20):
        assert "error" not in types(world.send(create(audio=200 * KIB, id=f"i{number}")))
    kept = []
    for number in range(20):
        world.send(ev.ConversationItemRetrieve(item_id=f"i{number}"))
        kept.append(len(world.last(ev.ConversationItemRetrieved).item.content[0].audio))
    assert kept == [0] * 16 + [200 * KIB] * 4
    assert "error" not in types(world.send(create(text=900 * KIB)))
    assert only_error(world.send(create(text=200 * KIB))).code == "conversation_full"


def test_a_turn_pushes_the_oldest_out_and_tells() -> None:
    """It cannot be refused, and no more is there afterwards than may be."""
    world = World(max_items=3)
    by_hand(world)
    for _ in range(5):
        world.send(ev.InputAudioBufferAppend(audio=silence(100)))
        world.send(ev.InputAudioBufferCommit())
    deleted = [e.item_id for e in world.events if isinstance(e, ev.ConversationItemDeleted)]
    committed = [e.item_id for e in world.events if isinstance(e, ev.InputAudioBufferCommitted)]
    assert deleted == committed[:2]
    assert only_error(world.send(user_message())).code == "conversation_full"


def test_an_answer_pushes_the_oldest_out_too() -> None:
    """A long transcript counts when it is there."""
    world = World([Text("x" * 300 * KIB)], spoken(200), max_kept_bytes=400 * KIB)
    world.send(user_message("y" * 300 * KIB, id="old"))
    world.send(ev.ResponseCreate())
    world.run(2)
    world.send(ev.ResponseCreate())
    world.run(2)
    assert world.last(ev.ConversationItemDeleted).item_id == "old"
    assert world.last(ev.ResponseDone).response.status == "completed"


@pytest.mark.parametrize("item", [{"text": 9 * MIB}, {"image": 9 * MIB}], ids=["text", "image"])
def test_an_item_is_not_too_large_to_be_told(item: dict[str, int]) -> None:
    """It would be sent back twice."""
    assert only_error(World().send(create(**item))).code == "event_too_large"


def test_an_id_is_short() -> None:
    """It is in every event about its item, and in the next item's."""
    assert only_error(World().send(create(id="x" * 513))).param == "item.id"


# What waits for responders and transcribers


def test_responses_are_given_so_much_together() -> None:
    """One more is refused; when one has ended there is room again."""
    world = World(manual=True, max_buffer_bytes=MIB)
    own = {"conversation": "none", "input": [message(audio=200 * KIB)]}
    wanted = {"type": "response.create", "response": own}
    told = [types(world.send(wanted))[0] for _ in range(6)]
    assert told == ["response.created"] * 2 + ["error"] * 4
    assert world.last(ev.Error).error.code == "rate_limit_exceeded"
    response_id = world.started[0].response_id
    world.send(ev.ResponseCancel(response_id=response_id))
    assert types(world.send(wanted))[0] == "response.created"


def test_of_a_long_turn_a_responder_is_given_the_end() -> None:
    """Half a buffer full of G.711 would be three of PCM16."""
    world = World(manual=True, max_buffer_bytes=MIB)
    by_hand(world, format={"type": "audio/pcmu"})
    world.send(create(audio=4 * MIB))
    world.send(ev.ResponseCreate())
    encoded = world.started[0].encoded
    assert encoded is not None
    assert MIB - 12 < encoded.pcm_bytes <= MIB
    assert len(encoded.pcm()) == pytest.approx(encoded.pcm_bytes, abs=64)


async def _decoded(data: bytes) -> int:
    heard: list[int] = []

    class Listener:
        async def respond(self, request: Any) -> Any:
            heard.append(len(request.last_user_audio))
            yield Text("Yes.")

    served = RealtimeServer(Listener(), detector_factory=EnergyDetector)
    async with served.connect_memory() as transport, client_on(transport) as client:
        audio = {"input": {"turn_detection": None, "format": {"type": "audio/pcma"}}}
        update = {"type": "session.update", "session": {"type": "realtime", "audio": audio}}
        client.transport.send(msgspec.json.encode(update))
        client.send(ev.InputAudioBufferAppend(audio=data), ev.InputAudioBufferCommit())
        client.send(ev.ResponseCreate())
        await client.get(ev.ResponseDone)
    return heard[0]


@pytest.mark.anyio
async def test_g711_is_decoded_for_the_responder() -> None:
    """In a thread: minutes of it take longer than others may wait."""
    assert await _decoded(bytes(8000)) == pytest.approx(48_000, abs=64)


def test_transcriptions_that_wait_are_bounded() -> None:
    """One more fails, and says why."""
    world = World(max_buffer_bytes=MIB)
    by_hand(world, transcription={"model": "whisper-1"})
    for _ in range(4):
        world.send(ev.InputAudioBufferAppend(audio=bytes(300 * KIB)))
        world.send(ev.InputAudioBufferCommit())
    failed = world.last(ev.ConversationItemInputAudioTranscriptionFailed)
    assert failed.error.code == "rate_limit_exceeded"
    assert len(world.transcribe) == 3


def test_a_buffer_of_g711_holds_as_many_minutes_as_one_of_pcm() -> None:
    """What is in it is decoded when somebody wants it."""
    world = World(max_buffer_bytes=6 * 8000)
    by_hand(world, format={"type": "audio/pcmu"})
    assert world.say(bytes(8000)) == []
    assert only_error(world.say(bytes(1))).param == "audio"


# What takes long to read


def _numbered(count: int, text: str) -> str:
    return ",".join(text % number for number in range(count))


_TEXT = ('{"type":"message","role":"user","content":[{"type":"input_text","text":"', '"}]}}')
_ITEM = '{"type":"conversation.item.create","item":'
_SETTINGS = '{"type":"session.update","session":{"type":"realtime",'
_TOO_LARGE: dict[str, Callable[[], str]] = {
    "unknown fields": lambda: (
        '{"type":"response.create",' + _numbered(1_000_000, '"f%d":null') + "}"
    ),
    "fields of an item": lambda: _ITEM + "{" + _numbered(1_000_000, '"f%d":null') + "}}",
    "tools": lambda: (
        _SETTINGS + '"tools":[' + ",".join(['{"type":"function","name":"f"}'] * 100_000) + "]}}"
    ),
    "an array": lambda: (
        '{"type":"response.create","response":{"input":[' + "1," * 9_000_000 + "1]}}"
    ),
    "quotes": lambda: _ITEM + "{" + _numbered(30_000, '"%d":1') + '"' * 9_000_001,
    "an open string": lambda: _ITEM + " " * 9_000_000 + '"' + "," * 9_000_000,
    "escapes": lambda: _ITEM + _TEXT[0] + '\\",' * 3_000_000 + _TEXT[1],
    "surrogates": lambda: _ITEM + _TEXT[0] + "\\ud800" * 3_000_000 + _TEXT[1],
    "blanks": lambda: " " * 18_000_000 + '{"type":"response.create"}',
    "instructions": lambda: _SETTINGS + '"instructions":"' + "x" * 18_000_000 + '"}}',
}
"""Made by the tests that send them: megabytes, which nobody who collects tests waits for."""


@pytest.mark.parametrize("name", _TOO_LARGE)
def test_what_would_take_long_to_read_is_refused(name: str) -> None:
    """By its bytes, before it is parsed; the session goes on."""
    frame = _TOO_LARGE[name]().encode()
    world = World()
    begun_s = time.process_time()
    answer = world.send(frame)
    took_s = time.process_time() - begun_s
    assert only_error(answer).code in {"event_too_large", "invalid_json"}
    assert took_s < 1
    assert types(world.update()) == ["session.updated"]


def test_a_text_with_many_commas_is_a_text() -> None:
    """So is JSON in a text, and a thousand tools."""
    world = World()
    assert "error" not in types(world.send(create(text=10)))
    texts = ["a,b" * 100_000, '{"a":[1,2]},' * 20_000, "\\," * 50_000, '"' * 100_000 + "," * 20_000]
    for text in texts:
        sent = world.send(user_message(text))
        assert "error" not in types(sent)
        assert world.last(ev.ConversationItemDone).item.content[0].text == text
    tools = [{"type": "function", "name": f"f{n}"} for n in range(1000)]
    assert types(world.update(tools=tools)) == ["session.updated"]
    assert MAX_VALUES > 10_000


def test_settings_are_bounded_together() -> None:
    """They are repeated at each update: one that makes them too large changes nothing."""
    world = World()
    assert types(world.update(instructions="x" * (MAX_SETTINGS_BYTES - 10_000))) == [
        "session.updated"
    ]
    tool = {"type": "function", "name": "f", "description": "y" * 20_000}
    assert only_error(world.update(tools=[tool])).code == "event_too_large"
    assert world.update()[0].session.tools == []  # type: ignore[union-attr]  # as types say
    response = {"instructions": "x" * 2 * MAX_SETTINGS_BYTES, "conversation": "none"}
    refused = world.send({"type": "response.create", "response": response})
    assert only_error(refused).code == "event_too_large"


def test_what_a_client_sent_is_repeated_in_brief() -> None:
    """An error is no way to be sent megabytes."""
    world = World()
    for event in (
        create() | {"previous_item_id": "x" * MIB},
        {"type": "conversation.item.retrieve", "item_id": "x" * (MIB // 2)},
        {"type": "response.create", "x" * MIB: 1},
        {"type": "response.create", "response": {"input": [{"type": "x" * MIB}]}},
    ):
        error = only_error(world.send(event))
        assert len(error.message) <= 1000
        assert len(error.param or "") <= 1000


# What waits in between


def test_one_tick_repeats_so_much() -> None:
    """Short frames that ask for much take turns with others, and with the client's reading."""
    world = World()
    world.send(create(audio=100 * KIB, id="long"), create(text=100 * KIB, id="text"))
    protocol = world.protocol
    for item_id in ("long", "text"):
        for _ in range(50):
            protocol.receive(
                msgspec.json.encode({"type": "conversation.item.retrieve", "item_id": item_id})
            )
    protocol.tick(world.now_s)
    assert len(protocol.drain()) == 3


@pytest.mark.anyio
async def test_frames_of_no_byte_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million of them wait no more than others do."""
    monkeypatch.setattr(_session, "MAX_UNHANDLED_BYTES", 100_000)
    async with server().connect_memory() as transport, client_on(transport) as client:
        await client.get(ev.SessionCreated)
        sent = 0
        while not transport.peer.paused:
            transport.send(b"")
            sent += 1
            assert sent < 1000
        await client.get(ev.Error, nth=sent)
        assert not transport.peer.paused


@pytest.mark.anyio
async def test_a_sideband_that_does_not_read_is_closed() -> None:
    """The caller waits for nobody, and hears all."""
    limit = 128 * KIB
    served = server(Endless(), pace=float("inf"), max_outgoing_bytes=limit)
    ours, theirs = memory_transport_pair()
    async with (
        served.connect_memory() as transport,
        client_on(transport) as caller,
        anyio.create_task_group() as tasks,
        client_on(theirs) as deaf,
    ):
        await caller.get(ev.SessionCreated)
        tasks.start_soon(served.sessions[0].join, ours)
        await deaf.get(ev.SessionCreated)
        theirs.pause()
        caller.send(ev.ResponseCreate())
        with anyio.fail_after(60):
            while not theirs._info:
                assert ours.buffered_bytes < (LAGGING + 3) * limit
                await anyio.lowlevel.checkpoint()
        theirs.resume()
        assert (await deaf.closed()).code == 1008
        heard = len(caller.all(ev.ResponseOutputAudioDelta))
        await caller.get(ev.ResponseOutputAudioDelta, nth=heard + 20)


# All of it together


def test_the_memory_of_a_conversation_is_bounded() -> None:
    """By what the options say, whatever a client does: here in small."""
    options = ServerOptions(max_kept_bytes=2 * MIB, max_buffer_bytes=MIB)
    protocol = RealtimeProtocol(options, model="m", make_detector=EnergyDetector)
    own = {"conversation": "none", "input": [message(audio=100 * KIB), message(text=100 * KIB)]}
    transcription = {"turn_detection": None, "transcription": {"model": "whisper-1"}}
    session = {"type": "realtime", "audio": {"input": transcription}}
    audio = pybase64.b64encode(bytes(200 * KIB)).decode()
    flood = [
        {"type": "session.update", "session": session | {"instructions": "x" * 500 * KIB}},
        *(create(text=100 * KIB), create(audio=100 * KIB), create(image=100 * KIB)) * 20,
        *({"type": "response.create", "response": own},) * 10,
        *(
            {"type": "input_audio_buffer.append", "audio": audio},
            {"type": "input_audio_buffer.commit"},
        )
        * 30,
        *({"type": "input_audio_buffer.append", "audio": audio},) * 10,
    ]
    frames = [msgspec.json.encode(event) for event in flood]
    held: list[Any] = []  # what responders and transcribers have in their hands

    def drained() -> None:
        held.extend(out for out in protocol.drain() if not isinstance(out, ev.ServerEvent))

    for frame in frames[:2]:  # what is made once and for all
        protocol.receive(frame)
        protocol.tick(0.0)
        drained()
    tracemalloc.start()
    try:
        for frame in frames * 3:
            protocol.receive(bytes(frame))
            while protocol.unhandled_bytes or (protocol.next_deadline() or 0) < 0:
                protocol.tick(0.0)
                held = [each for each in held if type(each).__name__ != "SendTo"]
                drained()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < options.max_kept_bytes + 3 * options.max_buffer_bytes + 2 * MIB


_FORGETFUL = """
import os, msgspec, pybase64
from pathlib import Path
from realtime_bus.server import EnergyDetector, ServerOptions
from realtime_bus.server._protocol import RealtimeProtocol
from realtime_bus.server._wire import to_frame

options = ServerOptions(max_kept_bytes=8 << 20)
protocol = RealtimeProtocol(options, model="m", make_detector=EnergyDetector)
part = {"type": "input_audio", "audio": pybase64.b64encode(bytes(4 << 20)).decode()}
item = {"type": "message", "role": "user", "content": [part]}
frame = msgspec.json.encode({"type": "conversation.item.create", "item": item})
pages = []
for _ in range(30):
    protocol.receive(bytes(bytearray(frame)))
    protocol.tick(0.0)
    for event in protocol.drain():
        if not isinstance(event, bytes):
            to_frame(event, options)
    pages.append(int(Path("/proc/self/statm").read_text().split()[1]))
print((pages[-1] - pages[5]) * os.sysconf("SC_PAGE_SIZE"))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells how much is held")
def test_what_is_forgotten_goes_back_to_the_system() -> None:
    """Nor does the heap grow, which Python's own count of memory does not see."""
    command = [sys.executable, "-c", _FORGETFUL]
    done = subprocess.run(command, capture_output=True, check=True, timeout=250)
    assert int(done.stdout) < 30 * MIB
