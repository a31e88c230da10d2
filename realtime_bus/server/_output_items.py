"""The events that make up one output item, in their order.

The rules
---------
* A message: ``output_item.added``, ``conversation.item.added``, ``content_part.added``, deltas,
  the deltas' ``done`` (audio before transcript), ``content_part.done``, and the two events that
  end the item.
* A function call: the same without content parts; ``added`` carries name and call id already.
* A message that is cut short has every ``done`` too; its item ends ``incomplete``.
* Out of band there is no conversation, and none of the ``conversation.item`` events.
* An item that the client deleted meanwhile ends without ``conversation.item.done``.

Source: Realtime protocol, flows of audio, text and function call turns.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms

from ._desk import Desk, ItemWriter
from ._entries import Sound
from ._responder import ToolCall

__all__ = ["CallWriter", "Ending", "MessageWriter", "SpokenWriter", "WrittenWriter"]

Ending = Literal["completed", "incomplete"]
Status = Ending | Literal["in_progress"]

ARGUMENT_CHARS = 24
"""Length of an argument delta: some words of JSON, as models send them."""


class _Where(TypedDict):
    """The fields that say where in a response an event belongs."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int


class MessageWriter(ItemWriter):
    """A message with one part, written piece by piece."""

    spoken = False

    def __init__(self, desk: Desk) -> None:
        item_id = desk.fresh_item_id()
        super().__init__(desk, _message(item_id, [], "in_progress"), item_id)
        self._pieces: list[str] = []
        part = self._part("")
        self._out.send(ev.ResponseContentPartAdded(part=part, **self._where()))

    def _where(self) -> _Where:
        return {
            "response_id": self._desk.response_id,
            "item_id": self.item_id,
            "output_index": self._index,
            "content_index": 0,
        }

    def end(self, ending: Ending) -> None:
        """Send every event that ends the message."""
        text = "".join(self._pieces)
        self._end_deltas(text)
        self._out.send(ev.ResponseContentPartDone(part=self._part(text), **self._where()))
        item = _message(self.item_id, [self._content(text)], ending)
        self._finish(item, conversation_first=self.spoken and ending == "completed")

    def write(self, text: str) -> None:
        """Send a piece of text, or of transcript."""
        self._pieces.append(text)
        self._delta(text)

    def _part(self, text: str) -> ev.ContentPart:
        raise NotImplementedError

    def _content(self, text: str) -> ev.ContentPart:
        raise NotImplementedError

    def _delta(self, text: str) -> None:
        raise NotImplementedError

    def _end_deltas(self, text: str) -> None:
        raise NotImplementedError


class WrittenWriter(MessageWriter):
    """A message of text."""

    def _part(self, text: str) -> ev.ContentPart:
        return ev.TextPart(text=text)

    def _content(self, text: str) -> ev.ContentPart:
        return ev.OutputText(text=text)

    def _delta(self, text: str) -> None:
        self._out.send(ev.ResponseOutputTextDelta(delta=text, **self._where()))

    def _end_deltas(self, text: str) -> None:
        self._out.send(ev.ResponseOutputTextDone(text=text, **self._where()))


class SpokenWriter(MessageWriter):
    """A message of audio with its transcript."""

    spoken = True

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._sound = self.entry.sounds[0] = Sound(b"", desk.audio_format)

    def play(self, audio: bytes) -> int:
        """Send a piece of audio; return by how many milliseconds the message grew."""
        before = self._sound.length_ms
        if not self.entry.cut_off:
            self._hold(audio)
        self._out.send(ev.ResponseOutputAudioDelta(delta=audio, **self._where()))
        grown = self._sound.length_ms - before
        return grown or bytes_to_ms(len(audio), self._desk.audio_format)

    def _hold(self, audio: bytes) -> None:
        self._sound.length_bytes += len(audio)
        conversation = self._desk.conversation
        if conversation is not None and self.item_id in conversation:
            self._sound.audio += audio
            conversation.keep(len(audio))

    def _part(self, text: str) -> ev.ContentPart:
        return ev.AudioPart(transcript=text)

    def _content(self, text: str) -> ev.ContentPart:
        return ev.OutputAudio(transcript=text)

    def _delta(self, text: str) -> None:
        self._out.send(ev.ResponseOutputAudioTranscriptDelta(delta=text, **self._where()))

    def _end_deltas(self, text: str) -> None:
        self._out.send(ev.ResponseOutputAudioDone(**self._where()))
        self._out.send(ev.ResponseOutputAudioTranscriptDone(transcript=text, **self._where()))


def _message(item_id: str, content: list[ev.ContentPart], status: Status) -> ev.MessageItem:
    return ev.MessageItem(
        id=item_id, object="realtime.item", status=status, role="assistant", content=content
    )


class CallWriter(ItemWriter):
    """A function call, all of it at once."""

    def __init__(self, desk: Desk, call: ToolCall) -> None:
        item_id = desk.fresh_item_id()
        self._name = call.name
        self._call_id = call.call_id or desk.out.new_id("call")
        super().__init__(desk, self._item(item_id, "", "in_progress"), item_id)

    def _item(self, item_id: str, arguments: str, status: Status) -> ev.FunctionCallItem:
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
            self._delta(arguments[start : start + ARGUMENT_CHARS])
        self._out.send(
            ev.ResponseFunctionCallArgumentsDone(
                response_id=self._desk.response_id,
                item_id=self.item_id,
                output_index=self._index,
                call_id=self._call_id,
                name=self._name,
                arguments=arguments,
            )
        )
        self._finish(self._item(self.item_id, arguments, ending), conversation_first=False)

    def _delta(self, piece: str) -> None:
        self._out.send(
            ev.ResponseFunctionCallArgumentsDelta(
                response_id=self._desk.response_id,
                item_id=self.item_id,
                output_index=self._index,
                call_id=self._call_id,
                delta=piece,
            )
        )
