"""How sessions are opened, and what keeps them from it."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_bus import (
    AuthenticationError,
    Bus,
    ConnectError,
    HostUnreachable,
    InvalidEvent,
    UsageError,
)
from realtime_bus import events as ev
from realtime_bus.server import EnergyDetector, RealtimeServer

from ..bus._peer import Peer, joined, refusal, speech  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio


async def test_a_server_that_says_nothing() -> None:
    """Without ``session.created`` in time the opening fails, and the connection is closed."""
    peer = Peer()
    with pytest.raises(HostUnreachable, match=r"did not send session\.created within 0\.01 s"):
        async with Bus().session(peer.transport, open_timeout_s=0.01):
            pytest.fail("the block must not begin")
    assert peer.closed == (1000, "")


async def test_a_server_that_closes_at_once() -> None:
    """A close before ``session.created`` fails the opening with the server's words."""
    peer = Peer()
    peer.say(refusal(code="missing_model", message="you must give a model"))
    peer.hang_up(4000, "invalid_request_error.missing_model")
    with pytest.raises(ConnectError, match="closed the connection with 4000: you must give a mod"):
        async with Bus().session(peer.transport):
            pytest.fail("the block must not begin")


async def test_a_key_that_is_refused_after_the_upgrade() -> None:
    """Close code 3000 means that the key is wrong."""
    peer = Peer()
    peer.hang_up(3000, "invalid_request_error.invalid_api_key")
    with pytest.raises(AuthenticationError, match="check the API key") as caught:
        async with Bus().session(peer.transport):
            pytest.fail("the block must not begin")
    assert caught.value.close_code == 3000


async def test_settings_are_confirmed_before_the_block_begins() -> None:
    """Settings given to `Bus.session` are sent as ``session.update`` and awaited."""

    def answer(event: Any) -> list[ev.ServerEvent]:
        echo = ev.RealtimeSession(id="sess_1", instructions=event.session.instructions)
        return [ev.SessionUpdated(session=echo)]

    async with joined(answer=answer, instructions="be brief") as (session, peer):
        assert session.config.instructions == "be brief"
        assert peer.sent[0].session.instructions == "be brief"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"voic": "marin"}, UsageError, "no setting 'voic'"),
        ({"intent": "translation", "voice": "marin"}, UsageError, "no setting 'voice'"),
        ({"speed": 77.0}, InvalidEvent, r"session\.audio\.output\.speed"),
    ],
)
async def test_settings_that_cannot_work_cost_no_connection(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    """What is wrong with a setting is told by the call, before anything is dialled."""
    with pytest.raises(error, match=message):
        Bus().connect("wss://example.invalid/v1/realtime", api_key="sk-x", **settings)


async def test_settings_are_of_the_kind_that_the_server_says() -> None:
    """On a connection of one's own, ``session.created`` tells that it only transcribes."""
    whisper = ev.Transcription(model="whisper-1")
    server = RealtimeServer(detector_factory=EnergyDetector)
    async with (
        server.connect_memory(kind="transcription") as transport,
        Bus().session(transport, transcription=whisper) as session,
    ):
        assert session.settings.kind == "transcription"
        assert session.settings.transcription_model == "whisper-1"


async def test_without_waiting_for_created() -> None:
    """``wait_created=False`` is for connections whose first event was read already."""
    peer = Peer()
    async with Bus().session(peer.transport, wait_created=False) as session:
        assert session.id is None
        peer.say(speech())


async def test_a_connection_that_cannot_be_used() -> None:
    """An object without the methods of a connection is refused before anything is opened."""
    with pytest.raises(UsageError, match="object cannot be adapted"):
        Bus().session(object())


async def test_a_context_shows_no_secrets() -> None:
    """The printed form of what `connect` returns has neither key nor query."""
    context = Bus().connect("wss://example.com/v1/realtime?model=m", api_key="sk-secret")
    assert repr(context) == "<SessionContext wss://example.com/v1/realtime>"
    assert repr(Bus().session(Peer().transport)) == "<SessionContext on a transport>"
    assert await context.__aexit__(None, None, None) is False
