"""Sessions that translate: the same bus, another protocol."""

from __future__ import annotations

import anyio
import pytest

from realtime_bus import Bus, UsageError, decode_client, encode
from realtime_bus import events as ev
from realtime_bus.events import translation as tr
from realtime_bus.transport import MemoryTransport, memory_transport_pair

pytestmark = pytest.mark.anyio


class Translator:
    """The other side: confirms updates, and notes what else comes."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.seen: list[ev.Event] = []
        session = tr.TranslationSession(
            id="sess_t", expires_at=1, model="m", audio=tr.TranslationAudio()
        )
        self.created = tr.SessionCreated(event_id="e1", session=session)
        self.updated = tr.SessionUpdated(event_id="e2", session=session)

    def take(self, frame: bytes) -> None:
        """Answer one frame."""
        event = decode_client(frame, protocol="translation")
        self.seen.append(event)
        if isinstance(event, tr.SessionUpdate):
            self.transport.send(encode(self.updated))


async def test_a_translation_session_speaks_its_own_protocol() -> None:
    """Its settings are confirmed, its audio is sent and received, all in the other vocabulary."""
    ours, theirs = memory_transport_pair()
    bus = Bus()
    heard: list[bytes] = []
    bus.on(tr.SessionOutputAudioDelta)(lambda event: heard.append(event.delta))
    peer = Translator(theirs)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(theirs.run, peer.take)
        theirs.send(encode(peer.created))
        async with bus.session(ours, protocol="translation") as session:
            assert session.id == "sess_t"
            request = tr.TranslationSessionRequest()
            assert await session.update_translation(request) == peer.updated
            with pytest.raises(UsageError, match="update_translation"):
                await session.update(instructions="none here")
            await session.append_audio(b"\1\2" * 10)
            theirs.send(encode(tr.SessionOutputAudioDelta(event_id="e3", delta=b"\3\4")))
    assert heard == [b"\3\4"]
    assert [type(event) for event in peer.seen] == [
        tr.SessionUpdate,
        tr.SessionInputAudioBufferAppend,
    ]
