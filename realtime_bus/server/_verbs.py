"""What each of the eleven client events does: a table, and one short function each.

Every function either does all of it, or raises `Refusal` and has done nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realtime_bus import events as ev

from ._client_items import client_entry
from ._config import SessionConfig
from ._conversation import Conversation
from ._input import InputBuffer
from ._outbox import Outbox
from ._refusals import bad_value
from ._responses import Responses
from ._turns import Turns

__all__ = ["Verbs"]


class Verbs:
    """The client events of one session.

    Args:
        out: Where answers go.
        config: The session's settings.
        buffer: The input buffer.
        conversation: The default conversation.
        responses: The session's responses.
        turns: The user's turns.
    """

    def __init__(
        self,
        out: Outbox,
        config: SessionConfig,
        *,
        buffer: InputBuffer,
        conversation: Conversation,
        responses: Responses,
        turns: Turns,
    ) -> None:
        self._out = out
        self._config = config
        self._buffer = buffer
        self._conversation = conversation
        self._responses = responses
        self._turns = turns
        self._table: dict[type, Callable[[Any], None]] = {
            ev.InputAudioBufferAppend: self._append,
            ev.InputAudioBufferCommit: self._commit,
            ev.InputAudioBufferClear: self._clear,
            ev.SessionUpdate: self._update,
            ev.ConversationItemCreate: self._create_item,
            ev.ConversationItemRetrieve: self._retrieve,
            ev.ConversationItemTruncate: self._truncate,
            ev.ConversationItemDelete: self._delete,
            ev.ResponseCreate: self._respond,
            ev.ResponseCancel: self._cancel,
            ev.OutputAudioBufferClear: self._clear_output,
        }

    def carry_out(self, event: ev.ClientEvent) -> None:
        """Do what a client event asks for.

        Raises:
            Refusal: It cannot be done, and nothing was.
        """
        self._table[type(event)](event)

    def _append(self, event: ev.InputAudioBufferAppend) -> None:
        self._buffer.append(event.audio)

    def _commit(self, _event: ev.InputAudioBufferCommit) -> None:
        self._turns.commit()

    def _clear(self, _event: ev.InputAudioBufferClear) -> None:
        self._turns.clear()

    def _update(self, event: ev.SessionUpdate) -> None:
        self._config.update(event.to_dict()["session"])
        self._turns.settings_changed()
        self._out.send(ev.SessionUpdated(session=self._config.echo))

    def _create_item(self, event: ev.ConversationItemCreate) -> None:
        self._conversation.check_room()
        entry = client_entry(
            event.item,
            self._conversation,
            new_id=self._out.new_id,
            audio_format=self._config.input_format,
        )
        self._turns.add(entry, after=event.previous_item_id)

    def _retrieve(self, event: ev.ConversationItemRetrieve) -> None:
        item = self._conversation.retrieve(event.item_id)
        self._out.send(ev.ConversationItemRetrieved(item=item))

    def _truncate(self, event: ev.ConversationItemTruncate) -> None:
        item_id, index, end_ms = event.item_id, event.content_index, event.audio_end_ms
        self._conversation.truncate(item_id, index, end_ms)
        self._out.send(
            ev.ConversationItemTruncated(item_id=item_id, content_index=index, audio_end_ms=end_ms)
        )

    def _delete(self, event: ev.ConversationItemDelete) -> None:
        self._conversation.delete(event.item_id)
        self._out.send(ev.ConversationItemDeleted(item_id=event.item_id))

    def _respond(self, event: ev.ResponseCreate) -> None:
        self._responses.create(event.response)

    def _cancel(self, event: ev.ResponseCancel) -> None:
        self._responses.cancel(event.response_id)

    def _clear_output(self, _event: ev.OutputAudioBufferClear) -> None:
        message = "Only WebRTC and SIP sessions have an output audio buffer at the server."
        raise bad_value("type", message)
