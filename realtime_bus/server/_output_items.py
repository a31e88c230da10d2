"""What one response goes by, and the events that make up its output items, in their order.

The rules
---------
* A message: ``output_item.added``, ``conversation.item.added``, ``content_part.added``, deltas,
  the deltas' ``done`` (audio before transcript), ``content_part.done``, and the two events that
  end the item.
* A function call: the same without content parts; ``added`` carries name and call id already.
* A message that is cut short has every ``done`` too; its item ends ``incomplete``.
* Out of band there is no conversation, and none of the ``conversation.item`` events.
* A message that is complete ends with the conversation's event first, all else with the
  response's, as recorded; `ServerOptions.item_done` has it otherwise.
* An item that the client deleted meanwhile ends without ``conversation.item.done``.

Source: Realtime protocol, flows of audio, text and function call turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypedDict

from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms

from ._conversation import DefaultConversation
from ._items import ItemAudio, StoredItem
from ._options import ServerOptions
from ._responders import ToolCall
from ._wire import EventWriter

Ending: TypeAlias = Literal["completed", "incomplete"]
ItemStatus: TypeAlias = Ending | Literal["in_progress"]
ResponseStatus: TypeAlias = ItemStatus | Literal["cancelled", "failed"]

ARGUMENT_CHARS = 24
"""Length of an argument delta: some words of JSON, as models send them."""


@dataclass(kw_only=True, slots=True)
class ResponseContext:
    """What one response goes by, session and request taken together, and what it has made.

    Attributes:
        out: Where events go.
        options: The server's knobs.
        response_id: The response.
        conversation: Where its items go; None out of band.
        spoken: Audio with transcript, or text.
        audio_format: What audio is encoded in.
        voice: Who speaks.
        max_output_tokens: When it is cut short.
        metadata: What the request came with.
        output: The items so far, as ``response.done`` will show them.
    """

    out: EventWriter
    options: ServerOptions
    response_id: str
    conversation: DefaultConversation | None = None
    spoken: bool = True
    audio_format: ev.AudioFormat | None = None
    voice: str | ev.CustomVoice | None = None
    max_output_tokens: int | Literal["inf"] | None = "inf"
    metadata: dict[str, str] | None = None
    output: list[ev.Item] = field(default_factory=list[ev.Item])

    def fresh_item_id(self) -> str:
        """Return an id for a new item."""
        return self.conversation.fresh_id() if self.conversation else self.out.new_id("item")

    def show(
        self,
        status: ResponseStatus,
        *,
        details: ev.StatusDetails | None = None,
        usage: ev.Usage | None = None,
    ) -> ev.Response:
        """Return the response as ``response.created`` and ``response.done`` show it."""
        audio = ev.ResponseAudioOutput(format=self.audio_format, voice=self.voice)
        return ev.Response(
            id=self.response_id,
            object="realtime.response",
            status=status,
            status_details=details,
            output=[] if status == "in_progress" else list(self.output),
            conversation_id=self.conversation.conversation_id if self.conversation else None,
            output_modalities=["audio" if self.spoken else "text"],
            audio=ev.ResponseAudio(output=audio),
            max_output_tokens=self.max_output_tokens,
            metadata=self.metadata,
            usage=usage,
        )


class ItemWriter:
    """One output item: how it begins and how it ends.

    Args:
        context: The response.
        item: The item as it begins.
        item_id: Its id.
    """

    def __init__(self, context: ResponseContext, item: ev.Item, item_id: str) -> None:
        self._context = context
        self._out = context.out
        self._conversation = context.conversation
        self.item_id = item_id
        self.stored = StoredItem(item, item_id, by_model=True)
        self._index = len(context.output)
        context.output.append(item)
        self._out.send(
            ev.ResponseOutputItemAdded(
                response_id=context.response_id, output_index=self._index, item=item
            )
        )
        if self._conversation is not None:
            self._conversation.add(self.stored)

    def _finish(self, item: ev.Item, *, conversation_first: bool) -> None:
        self._context.output[self._index] = item
        self.stored.show(item)
        if self._conversation is not None:
            self._conversation.count(self.stored)
        order = self._context.options.item_done
        if order != "recorded":
            conversation_first = order == "conversation"
        if self._conversation is not None and conversation_first:
            self._conversation.done(self.stored, item)
        response_id, index = self._context.response_id, self._index
        self._out.send(
            ev.ResponseOutputItemDone(response_id=response_id, output_index=index, item=item)
        )
        if self._conversation is not None and not conversation_first:
            self._conversation.done(self.stored, item)


class _Where(TypedDict):
    """The fields that say where in a response an event belongs."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int


class MessageWriter(ItemWriter):
    """A message with one part, written piece by piece.

    Args:
        context: The response.
    """

    def __init__(self, context: ResponseContext) -> None:
        item_id = context.fresh_item_id()
        super().__init__(context, _message(item_id, [], "in_progress"), item_id)
        self._pieces: list[str] = []
        self._where: _Where = {
            "response_id": context.response_id,
            "item_id": item_id,
            "output_index": self._index,
            "content_index": 0,
        }
        self._out.send(ev.ResponseContentPartAdded(part=self._part(""), **self._where))

    def write(self, text: str) -> None:
        """Send a piece of text, or of transcript."""
        self._pieces.append(text)
        self._delta(text)

    def end(self, ending: Ending) -> None:
        """Send every event that ends the message."""
        text = "".join(self._pieces)
        self._end_deltas(text)
        self._out.send(ev.ResponseContentPartDone(part=self._part(text), **self._where))
        item = _message(self.item_id, [self._content(text)], ending)
        self._finish(item, conversation_first=ending == "completed")

    def _part(self, text: str) -> ev.ContentPart:
        raise NotImplementedError

    def _content(self, text: str) -> ev.ContentPart:
        raise NotImplementedError

    def _delta(self, text: str) -> None:
        raise NotImplementedError

    def _end_deltas(self, text: str) -> None:
        raise NotImplementedError


def _message(item_id: str, content: list[ev.ContentPart], status: ItemStatus) -> ev.MessageItem:
    return ev.MessageItem(
        id=item_id, object="realtime.item", status=status, role="assistant", content=content
    )


class WrittenWriter(MessageWriter):
    """A message of text."""

    def _part(self, text: str) -> ev.ContentPart:
        return ev.TextPart(text=text)

    def _content(self, text: str) -> ev.ContentPart:
        return ev.OutputText(text=text)

    def _delta(self, text: str) -> None:
        self._out.send(ev.ResponseOutputTextDelta(delta=text, **self._where))

    def _end_deltas(self, text: str) -> None:
        self._out.send(ev.ResponseOutputTextDone(text=text, **self._where))


class SpokenWriter(MessageWriter):
    """A message of audio with its transcript."""

    def __init__(self, context: ResponseContext) -> None:
        super().__init__(context)
        self._audio = self.stored.audio[0] = ItemAudio(b"", context.audio_format)

    def play(self, audio: bytes) -> int:
        """Send a piece of audio; return by how many milliseconds the message grew."""
        before_ms = self._audio.length_ms
        if not self.stored.truncated:
            self._audio.length_bytes += len(audio)
            if self._conversation is not None and self.item_id in self._conversation:
                self._audio.audio += audio
                self._conversation.count_audio(self.stored)
        self._out.send(ev.ResponseOutputAudioDelta(delta=audio, **self._where))
        grown_ms = self._audio.length_ms - before_ms
        return grown_ms or bytes_to_ms(len(audio), self._context.audio_format)

    def _part(self, text: str) -> ev.ContentPart:
        return ev.AudioPart(transcript=text)

    def _content(self, text: str) -> ev.ContentPart:
        return ev.OutputAudio(transcript=text)

    def _delta(self, text: str) -> None:
        self._out.send(ev.ResponseOutputAudioTranscriptDelta(delta=text, **self._where))

    def _end_deltas(self, text: str) -> None:
        self._out.send(ev.ResponseOutputAudioDone(**self._where))
        self._out.send(ev.ResponseOutputAudioTranscriptDone(transcript=text, **self._where))


class CallWriter(ItemWriter):
    """A function call, all of it at once.

    Args:
        context: The response.
        call: What the responder calls.
    """

    def __init__(self, context: ResponseContext, call: ToolCall) -> None:
        item_id = context.fresh_item_id()
        self._name = call.name
        self._call_id = call.call_id or context.out.new_id("call")
        super().__init__(context, self._item(item_id, "", "in_progress"), item_id)

    def _item(self, item_id: str, arguments: str, status: ItemStatus) -> ev.FunctionCallItem:
        return ev.FunctionCallItem(
            id=item_id,
            object="realtime.item",
            status=status,
            name=self._name,
            call_id=self._call_id,
            arguments=arguments,
        )

    def write(self, arguments: str, ending: Ending) -> None:
        """Send the arguments and end the item."""
        for start in range(0, len(arguments), ARGUMENT_CHARS):
            self._out.send(
                ev.ResponseFunctionCallArgumentsDelta(
                    response_id=self._context.response_id,
                    item_id=self.item_id,
                    output_index=self._index,
                    call_id=self._call_id,
                    delta=arguments[start : start + ARGUMENT_CHARS],
                )
            )
        self._out.send(
            ev.ResponseFunctionCallArgumentsDone(
                response_id=self._context.response_id,
                item_id=self.item_id,
                output_index=self._index,
                call_id=self._call_id,
                name=self._name,
                arguments=arguments,
            )
        )
        self._finish(self._item(self.item_id, arguments, ending), conversation_first=False)
