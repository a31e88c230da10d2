"""The requests of a session: each is awaited, and gives what the server confirms."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
import msgspec
from typing_extensions import Unpack

from realtime_bus import events as ev
from realtime_bus.errors import UsageError, RequestError, RequestTimeout
from realtime_bus.codec import MAX_APPEND_BYTES
from realtime_bus.events import translation
from realtime_bus.events._vocabulary import TRANSLATION

from ._core import SessionCore
from ._fields import SessionFields, session_request
from ._requests import CONFIRMING, ITEM_ID_PREFIX, Pending, Requests

if TYPE_CHECKING:
    from realtime_bus._bus._bus import Bus
    from realtime_bus.events._vocabulary import Vocabulary
    from realtime_bus.transport import Transport

__all__ = ["REQUEST_TIMEOUT_S", "Verbs", "not_sent"]

_A = TypeVar("_A", bound=ev.Event)
_PIECE_BYTES = 240_000  # five seconds of PCM16: a larger append only delays what follows it

REQUEST_TIMEOUT_S = 10.0
"""Seconds that a server may take to answer a request, if nothing else is said."""

assert _PIECE_BYTES <= MAX_APPEND_BYTES  # noqa: S101  # a relation of constants, not of input


class Verbs(SessionCore):
    """A session with requests that can be awaited."""

    def __init__(self, bus: Bus, transport: Transport, vocabulary: Vocabulary) -> None:
        super().__init__(bus, transport, vocabulary)
        # others may talk in the same conversation (a call's sideband), or it may be restored
        self._token = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._requests = Requests()
        self._append: Callable[..., ev.ClientEvent] = (
            translation.SessionInputAudioBufferAppend
            if vocabulary is TRANSLATION
            else ev.InputAudioBufferAppend
        )
        self._close_waiters.append(self._requests.fail_all)
        self._watch(self._requests.observe, *CONFIRMING, ev.Error)

    def next_event_id(self) -> str:
        """Return an id for a client event that no other one has."""
        return f"rb_{self._token}_{next(self._numbers)}"

    async def request(
        self, event: ev.ClientEvent, *, timeout_s: float | None = REQUEST_TIMEOUT_S
    ) -> ev.Event:
        """Send an event and wait for the one that confirms it.

        Args:
            event: Any client event that has an answer; one without ``event_id`` is given one.
            timeout_s: Seconds to wait; None for as long as it takes.

        Raises:
            RequestRejected: The server answered with an error.
            RequestTimeout: It did not answer in time.
            RequestError: An outgoing interceptor ended the event; it was not sent.
            SessionClosed: The session has ended, or ended meanwhile.
            InvalidEvent: The event would be refused; it was not sent.
        """
        if event.event_id is None:
            event = msgspec.structs.replace(event, event_id=self.next_event_id())
        settled = anyio.Event()
        pending = Pending(event, settled.set)
        self._requests.add(pending)
        try:
            with anyio.fail_after(timeout_s):
                if not await self.send(event):
                    raise not_sent(event)
                await settled.wait()
        except TimeoutError:
            raise _timed_out(event, timeout_s or 0.0) from None
        finally:
            self._requests.forget(pending)
        return _outcome(pending)

    async def _ask(self, event: ev.ClientEvent, _answer: type[_A]) -> _A:
        return cast("_A", await self.request(event))

    async def update(
        self, session: ev.SessionRequest | None = None, **fields: Unpack[SessionFields]
    ) -> ev.SessionUpdated:
        """Change settings, and return the server's confirmation with all that is in force.

        Args:
            session: A whole request object; or give single settings by name.
            **fields: See `SessionFields`.

        Raises:
            RequestRejected: The server refused; nothing changed.
            UsageError: There is no such field, or both an object and fields were given.
        """
        if session is not None and fields:
            raise UsageError("update() takes a session object or single fields, not both")
        if self._vocabulary is TRANSLATION:
            raise UsageError("this session only translates; use update_translation()")
        request = session if session is not None else session_request(fields)
        return await self._ask(ev.SessionUpdate(session=request), ev.SessionUpdated)

    async def update_translation(
        self, session: translation.TranslationSessionRequest
    ) -> translation.SessionUpdated:
        """Change the settings of a translation session, and return what is in force.

        Raises:
            RequestRejected: The server refused; nothing changed.
        """
        event = translation.SessionUpdate(session=session)
        return await self._ask(event, translation.SessionUpdated)

    async def append_audio(self, audio: bytes) -> None:
        """Send audio, in the session's input format, split where it is long.

        Nothing confirms it; waits while too much is still unsent.
        """
        for start in range(0, len(audio), _PIECE_BYTES):
            await self.send(self._append(audio=audio[start : start + _PIECE_BYTES]))

    async def commit(self) -> ev.InputAudioBufferCommitted:
        """Make a user message of the input buffer; at least 100 ms must be there."""
        return await self._ask(ev.InputAudioBufferCommit(), ev.InputAudioBufferCommitted)

    async def clear(self) -> ev.InputAudioBufferCleared:
        """Discard what is in the input buffer."""
        return await self._ask(ev.InputAudioBufferClear(), ev.InputAudioBufferCleared)

    async def create_item(
        self, item: ev.Item, *, previous_item_id: str | None = None
    ) -> ev.ConversationItemAdded:
        """Add an item to the conversation: at its end, or behind another one.

        Args:
            item: A message, function call output and so on; one without id is given one.
            previous_item_id: The item to put it behind; ``"root"`` puts it first.
        """
        if isinstance(item, msgspec.Struct) and getattr(item, "id", "") is None:
            item_id = f"{ITEM_ID_PREFIX}{self._token}_{next(self._numbers)}"
            item = msgspec.structs.replace(item, id=item_id)
        event = ev.ConversationItemCreate(item=item, previous_item_id=previous_item_id)
        return await self._ask(event, ev.ConversationItemAdded)

    async def send_text(self, text: str) -> ev.ConversationItemAdded:
        """Add a user message of text; it starts no response: see `respond`."""
        message = ev.MessageItem(role="user", content=[ev.InputText(text=text)])
        return await self.create_item(message)

    async def retrieve_item(self, item_id: str) -> ev.ConversationItemRetrieved:
        """Fetch an item with its audio."""
        event = ev.ConversationItemRetrieve(item_id=item_id)
        return await self._ask(event, ev.ConversationItemRetrieved)

    async def delete_item(self, item_id: str) -> ev.ConversationItemDeleted:
        """Take an item out of the conversation."""
        event = ev.ConversationItemDelete(item_id=item_id)
        return await self._ask(event, ev.ConversationItemDeleted)

    async def truncate_item(
        self, item_id: str, *, audio_end_ms: int, content_index: int = 0
    ) -> ev.ConversationItemTruncated:
        """Cut an assistant's audio to what was heard; its transcript leaves the context."""
        event = ev.ConversationItemTruncate(
            item_id=item_id, content_index=content_index, audio_end_ms=audio_end_ms
        )
        return await self._ask(event, ev.ConversationItemTruncated)


def not_sent(event: ev.ClientEvent) -> RequestError:
    """Make the exception for a request that an interceptor ended."""
    return RequestError(
        f"{event.type} was not sent: an outgoing interceptor ended it",
        event_type=event.type,
        event_id=event.event_id or "",
    )


def _timed_out(event: ev.ClientEvent, timeout_s: float) -> RequestTimeout:
    return RequestTimeout(
        f"the server did not answer {event.type} within {timeout_s:g} s",
        event_type=event.type,
        event_id=event.event_id or "",
        timeout_s=timeout_s,
    )


def _outcome(pending: Pending) -> ev.Event:
    if pending.answer is None:
        raise cast("Exception", pending.error)  # settled means that one of the two is there
    return pending.answer
