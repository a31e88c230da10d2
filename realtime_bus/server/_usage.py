"""How many tokens a response costs: an estimate, with the protocol's own rules of thumb.

A token is about 100 ms of audio going in, 50 ms of audio coming out, or 4 characters of text.
Nothing is ever cached. Parts add up to their totals.
"""

from __future__ import annotations

from collections.abc import Iterable

from realtime_bus import events as ev

from ._items import StoredItem

CHARS_PER_TOKEN = 4
INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50
IMAGE_TOKENS = 85
"""One image at low detail."""


class Meter:
    """Counts one response.

    Args:
        context: What the model is given.
        instructions: What it is told besides.
    """

    def __init__(self, context: Iterable[StoredItem], instructions: str) -> None:
        self._text_in = _tokens(len(instructions), CHARS_PER_TOKEN)
        self._audio_in = self._images_in = 0
        for stored in context:
            item, text_tokens, image_tokens = stored.tokens
            if item is not stored.item:
                text_tokens, image_tokens = _text_tokens(stored.item), _image_tokens(stored.item)
                stored.tokens = stored.item, text_tokens, image_tokens
            self._text_in += text_tokens
            self._images_in += image_tokens
            for part in stored.audio.values():
                self._audio_in += _tokens(part.length_ms, INPUT_MS_PER_TOKEN)
        self._chars_out = 0
        self._ms_out = 0

    def write(self, text: str) -> None:
        """Count text that came out."""
        self._chars_out += len(text)

    def play(self, length_ms: int) -> None:
        """Count audio that came out."""
        self._ms_out += length_ms

    @property
    def _text_out(self) -> int:
        return _tokens(self._chars_out, CHARS_PER_TOKEN)

    @property
    def _audio_out(self) -> int:
        return _tokens(self._ms_out, OUTPUT_MS_PER_TOKEN)

    @property
    def output_tokens(self) -> int:
        """What came out so far."""
        return self._text_out + self._audio_out

    def usage(self) -> ev.Usage:
        """Return everything counted."""
        return _usage(
            self._text_in, self._audio_in, self._images_in, self._text_out, self._audio_out
        )

    @staticmethod
    def nothing() -> ev.Usage:
        """Return what a response costs that was cancelled before its first output."""
        return _usage(0, 0, 0, 0, 0)

    def rate_limits(self) -> list[ev.RateLimit]:
        """Return limits nobody reaches, for this server has none: of tokens only, as recorded."""
        used = self.usage().total_tokens or 0
        left, reset_s = 2_000_000 - used, used / 2e6
        return [ev.RateLimit(name="tokens", limit=2_000_000, remaining=left, reset_seconds=reset_s)]


def _tokens(amount: int, per_token: int) -> int:
    return -(-amount // per_token)


def _usage(text_in: int, audio_in: int, images_in: int, text_out: int, audio_out: int) -> ev.Usage:
    total_in, total_out = text_in + audio_in + images_in, text_out + audio_out
    return ev.Usage(
        total_tokens=total_in + total_out,
        input_tokens=total_in,
        output_tokens=total_out,
        input_token_details=ev.InputTokenDetails(
            text_tokens=text_in,
            audio_tokens=audio_in,
            image_tokens=images_in,
            cached_tokens=0,
            cached_tokens_details=ev.CachedTokensDetails(
                text_tokens=0, audio_tokens=0, image_tokens=0
            ),
        ),
        output_token_details=ev.OutputTokenDetails(text_tokens=text_out, audio_tokens=audio_out),
    )


def _text_tokens(item: ev.Item) -> int:
    return sum(_tokens(len(text), CHARS_PER_TOKEN) for text in _texts(item))


def _image_tokens(item: ev.Item) -> int:
    parts = item.content if isinstance(item, ev.MessageItem) else []
    return IMAGE_TOKENS * sum(isinstance(part, ev.InputImage) for part in parts)


def _texts(item: ev.Item) -> list[str]:
    """Return the texts that a model reads of an item."""
    if isinstance(item, ev.FunctionCallItem):
        return [item.name, item.arguments]
    if isinstance(item, ev.FunctionCallOutputItem):
        return [item.output]
    parts = item.content if isinstance(item, ev.MessageItem) else []
    texts: list[str] = []
    for part in parts:  # a client's transcript of input audio is not shown to the model
        if isinstance(part, ev.InputText | ev.OutputText | ev.TextPart):
            texts.append(part.text or "")
        elif isinstance(part, ev.OutputAudio | ev.AudioPart):
            texts.append(part.transcript or "")
    return texts
