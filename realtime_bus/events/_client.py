"""The eleven events that a client sends."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ._audio import Audio, lazy_audio
from ._base import ClientEvent
from ._items import Item
from ._response import ResponseCreateParams
from ._session import SessionRequest


class SessionUpdate(ClientEvent, frozen=True, kw_only=True, tag="session.update"):
    """Change settings; answered by ``session.updated``.

    Attributes:
        session: What is to change. The kind of session must be the one that was opened.
    """

    session: SessionRequest


class ConversationItemCreate(
    ClientEvent, frozen=True, kw_only=True, tag="conversation.item.create"
):
    """Add an item; answered by ``conversation.item.added`` and ``conversation.item.done``.

    It may be sent during a response and does not change that one.

    Attributes:
        item: The item; assistant audio cannot be added.
        previous_item_id: What it follows: ``"root"`` puts it first, None puts it last.
    """

    item: Item
    previous_item_id: str | None = None


class ConversationItemRetrieve(
    ClientEvent, frozen=True, kw_only=True, tag="conversation.item.retrieve"
):
    """Ask for an item with its audio; answered by ``conversation.item.retrieved``.

    Attributes:
        item_id: Which item.
    """

    item_id: str


class ConversationItemTruncate(
    ClientEvent, frozen=True, kw_only=True, tag="conversation.item.truncate"
):
    """Cut an assistant message to what was heard; answered by ``conversation.item.truncated``.

    The item's transcript leaves the context, for the server cannot know how far it was heard.

    Attributes:
        item_id: Which item.
        content_index: Which content part of it, normally 0.
        audio_end_ms: Milliseconds to keep. More than the item has is an error: round down.
    """

    item_id: str
    content_index: Annotated[int, Meta(ge=0)]
    audio_end_ms: Annotated[int, Meta(ge=0)]


class ConversationItemDelete(
    ClientEvent, frozen=True, kw_only=True, tag="conversation.item.delete"
):
    """Remove an item; answered by ``conversation.item.deleted``.

    Attributes:
        item_id: Which item.
    """

    item_id: str


@lazy_audio("audio")
class InputAudioBufferAppend(
    ClientEvent, frozen=True, kw_only=True, tag="input_audio_buffer.append"
):
    """Add audio to the input buffer; not answered.

    Attributes:
        audio: The bytes, in the session's input format; at most 15 MiB on the wire.
    """

    audio: Audio


class InputAudioBufferCommit(
    ClientEvent, frozen=True, kw_only=True, tag="input_audio_buffer.commit"
):
    """Make a user message of the input buffer; answered by ``input_audio_buffer.committed``.

    Needed only without turn detection, and refused under 100 ms of audio. It starts no
    response.
    """


class InputAudioBufferClear(ClientEvent, frozen=True, kw_only=True, tag="input_audio_buffer.clear"):
    """Discard the input buffer; answered by ``input_audio_buffer.cleared``."""


class OutputAudioBufferClear(
    ClientEvent, frozen=True, kw_only=True, tag="output_audio_buffer.clear"
):
    """Silence the server's output buffer; answered by ``output_audio_buffer.cleared``.

    WebRTC and SIP only, after a ``response.cancel``.
    """


class ResponseCreate(ClientEvent, frozen=True, kw_only=True, tag="response.create"):
    """Start a response; answered by ``response.created`` up to ``response.done``.

    Refused while another response of the default conversation is active.

    Attributes:
        response: What differs from the session's settings.
    """

    response: ResponseCreateParams | None = None


class ResponseCancel(ClientEvent, frozen=True, kw_only=True, tag="response.cancel"):
    """Stop a response; answered by ``response.done`` with status cancelled.

    Attributes:
        response_id: Which response; None is the active one of the default conversation. One
            out of band needs its id.
    """

    response_id: str | None = None
