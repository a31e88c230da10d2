"""How many tokens things cost: an estimate, with the protocol's own rules of thumb.

A token is about 100 ms of audio going in, 50 ms of audio coming out, or 4 characters of text.
Nothing is ever cached. Parts add up to their totals.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from realtime_bus import events as ev

from ._entries import Entry

__all__ = ["Meter", "no_usage", "text_of"]

CHARS_PER_TOKEN = 4
INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50
IMAGE_TOKENS = 85
"""One image at low detail."""


def _tokens(amount: int, per_token: int) -> int:
    return -(-amount // per_token)


class Meter:
    """Counts one response.

    Args:
        context: What the model is given.
        instructions: What it is told besides.
    """

    def __init__(self, context: Iterable[Entry], instructions: str) -> None:
        entries = list(context)
        texts = [instructions, *(text for entry in entries for text in text_of(entry.item))]
        sounds = [sound for entry in entries for sound in entry.sounds.values()]
        self._text_in = sum(_tokens(len(text), CHARS_PER_TOKEN) for text in texts)
        self._audio_in = sum(_tokens(s.length_ms, INPUT_MS_PER_TOKEN) for s in sounds)
        self._images_in = IMAGE_TOKENS * sum(_images(entry.item) for entry in entries)
        self._chars_out = 0
        self._ms_out = 0

    def write(self, text: str) -> None:
        """Count text that came out."""
        self._chars_out += len(text)

    def play(self, length_ms: int) -> None:
        """Count audio that came out."""
        self._ms_out += length_ms

    @property
    def output_tokens(self) -> int:
        """What came out so far."""
        return self._text_out + self._audio_out

    @property
    def _text_out(self) -> int:
        return _tokens(self._chars_out, CHARS_PER_TOKEN)

    @property
    def _audio_out(self) -> int:
        return _tokens(self._ms_out, OUTPUT_MS_PER_TOKEN)

    def usage(self) -> ev.Usage:
        """Return everything counted."""
        total_in = self._text_in + self._audio_in + self._images_in
        return ev.Usage(
            total_tokens=total_in + self.output_tokens,
            input_tokens=total_in,
            output_tokens=self.output_tokens,
            input_token_details=_input_details(self._text_in, self._audio_in, self._images_in),
            output_token_details=ev.OutputTokenDetails(
                text_tokens=self._text_out, audio_tokens=self._audio_out
            ),
        )


def _input_details(text: int, audio: int, images: int) -> ev.InputTokenDetails:
    return ev.InputTokenDetails(
        text_tokens=text,
        audio_tokens=audio,
        image_tokens=images,
        cached_tokens=0,
        cached_tokens_details=ev.CachedTokensDetails(text_tokens=0, audio_tokens=0, image_tokens=0),
    )


def no_usage() -> ev.Usage:
    """Return what a response costs that was cancelled before its first output: nothing."""
    return ev.Usage(
        total_tokens=0,
        input_tokens=0,
        output_tokens=0,
        input_token_details=_input_details(0, 0, 0),
        output_token_details=ev.OutputTokenDetails(text_tokens=0, audio_tokens=0),
    )


def text_of(item: ev.Item) -> list[str]:
    """Return the texts that a model reads of an item."""
    if isinstance(item, ev.MessageItem):
        return [text for part in item.content if (text := _text_of_part(part))]
    if isinstance(item, ev.FunctionCallItem):
        return [item.name, item.arguments]
    return [item.output] if isinstance(item, ev.FunctionCallOutputItem) else []


def _text_of_part(part: ev.ContentPart) -> str:
    """A client's transcript of input audio is not shown to the model, the rest is."""
    if isinstance(part, ev.InputAudio | ev.InputImage | ev.UnknownObject):
        return ""
    return (part.text if isinstance(part, _WRITTEN) else part.transcript) or ""


_WRITTEN = (ev.InputText, ev.OutputText, ev.TextPart)


def _images(item: ev.Item) -> int:
    parts: list[msgspec.Struct] = list(item.content) if isinstance(item, ev.MessageItem) else []  # type: ignore[arg-type]  # a list of one union, read as one of its base
    return sum(isinstance(part, ev.InputImage) for part in parts)
