"""What is told of playback: when an item is first heard, and what was cut off."""

from __future__ import annotations

from typing import Literal

import msgspec

from realtime_bus import events as ev


class PlaybackStarted(ev.BusEvent, frozen=True, kw_only=True, tag="bus.playback_started"):
    """The first audio of an item can be heard.

    Attributes:
        item_id: Which item.
        response_id: The response that it is part of.
    """

    item_id: str
    response_id: str


class InterruptedItem(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one item when playback was interrupted.

    Attributes:
        item_id: Which item.
        content_index: Which content part of it.
        played_ms: What a person has heard of it, rounded down.
        received_ms: What the server had sent of it, rounded down.
        discarded_ms: What was received and never heard.
        action: What the server was asked to do with it: cut its audio to what was heard,
            remove it, or nothing.
    """

    item_id: str
    content_index: int = 0
    played_ms: int
    received_ms: int
    discarded_ms: int
    action: Literal["truncated", "deleted", "left"]


class PlaybackInterrupted(ev.BusEvent, frozen=True, kw_only=True, tag="bus.playback_interrupted"):
    """Somebody spoke over the assistant, and the sink is silent.

    Attributes:
        items: What was playing or queued, in order of playing.
        latency_s: Seconds from the frame of ``speech_started`` reaching the session to
            silence at the sink.
        audio_start_ms: Where in the input audio the speech began, if that is what
            interrupted.
    """

    items: list[InterruptedItem]
    latency_s: float
    audio_start_ms: int | None = None
