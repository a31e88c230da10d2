"""An item of the conversation, and the audio that belongs to it."""

from __future__ import annotations

from msgspec.structs import replace

from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms, ms_to_bytes

__all__ = ["Entry", "Sound"]


class Sound:
    """The audio of one content part.

    Attributes:
        audio: The bytes, as far as they are kept.
        audio_format: What they are encoded in.
        length_bytes: How much there is, kept or not.
    """

    __slots__ = ("audio", "audio_format", "length_bytes")

    def __init__(self, audio: bytes, audio_format: ev.AudioFormat | None) -> None:
        self.audio = bytearray(audio)
        self.audio_format = audio_format
        self.length_bytes = len(audio)

    @property
    def length_ms(self) -> int:
        """How long it is, rounded down."""
        return bytes_to_ms(self.length_bytes, self.audio_format)

    def cut(self, length_ms: int) -> None:
        """Keep only so much of the beginning."""
        self.length_bytes = ms_to_bytes(length_ms, self.audio_format)
        del self.audio[self.length_bytes :]


class Entry:
    """One item of the conversation.

    Attributes:
        item: As the protocol shows it, without audio.
        item_id: Its id.
        previous_item_id: What it followed when it was added.
        sounds: The audio of its parts, by content index.
        by_model: Whether the model made it.
        cut_off: Whether it was truncated: what the model still says does not count.
    """

    __slots__ = ("by_model", "cut_off", "item", "item_id", "previous_item_id", "sounds")

    def __init__(self, item: ev.Item, item_id: str, *, by_model: bool = False) -> None:
        self.item = item
        self.item_id = item_id
        self.previous_item_id: str | None = None
        self.sounds: dict[int, Sound] = {}
        self.by_model = by_model
        self.cut_off = False

    def cut(self) -> None:
        """Drop the transcript, now and for good: nobody knows how far it was heard."""
        self.cut_off = True
        self.show(self.item)

    def with_audio(self) -> ev.Item:
        """Return the item as ``conversation.item.retrieved`` shows it."""
        if not self.sounds or not isinstance(self.item, ev.MessageItem):
            return self.item
        parts = [
            _with_audio(part, self.sounds.get(index))
            for index, part in enumerate(self.item.content)
        ]
        return replace(self.item, content=parts)

    def show(self, item: ev.Item) -> None:
        """Show the item like this from now on, but what was cut stays cut."""
        if self.cut_off and isinstance(item, ev.MessageItem):
            item = replace(item, content=_without_transcript(item.content))
        self.item = item


def _with_audio(part: ev.ContentPart, sound: Sound | None) -> ev.ContentPart:
    if sound is None or not isinstance(part, ev.InputAudio | ev.OutputAudio):
        return part
    if isinstance(part, ev.InputAudio):
        return ev.InputAudio(audio=bytes(sound.audio), transcript=part.transcript)
    return ev.OutputAudio(audio=bytes(sound.audio), transcript=part.transcript)


def _without_transcript(parts: list[ev.ContentPart]) -> list[ev.ContentPart]:
    return [ev.OutputAudio() if isinstance(part, ev.OutputAudio) else part for part in parts]
