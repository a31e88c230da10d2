"""A server's responses, for tests of what becomes of a request for one."""

from __future__ import annotations

from typing import Any

from realtime_bus import events as ev

from ..bus._peer import Peer  # noqa: TID252  # tests are no package with a name of its own

RACE = "conversation_already_has_active_response"


def metadata_of(peer: Peer, index: int) -> Any:
    """Return what the client's n-th request for a response carries."""
    creates = [event for event in peer.sent if isinstance(event, ev.ResponseCreate)]
    response = creates[index].response
    return response.metadata if response is not None else None


def created(response_id: str, metadata: Any = None) -> ev.ResponseCreated:
    """Make the start of a response."""
    response = ev.Response(id=response_id, conversation_id="conv", metadata=metadata)
    return ev.ResponseCreated(response=response)


def done(response_id: str, metadata: Any = None, status: Any = "completed") -> ev.ResponseDone:
    """Make the end of a response."""
    response = ev.Response(id=response_id, conversation_id="conv", metadata=metadata, status=status)
    return ev.ResponseDone(response=response)


def speak(peer: Peer, index: int = 0, response_id: str = "resp_1") -> None:
    """Let the server start the response that the n-th request asked for."""
    peer.say(created(response_id, metadata_of(peer, index)))


def types(peer: Peer) -> list[str]:
    """Return what the client has sent, by wire names."""
    return [event.type for event in peer.sent]
