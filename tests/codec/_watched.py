"""A decoder under observation, and some frames to feed it."""

from __future__ import annotations

import json
from typing import Any

from realtime_bus import events as ev
from realtime_bus.codec import Decoder

DELETED: dict[str, Any] = {
    "type": "conversation.item.deleted",
    "event_id": "event_1",
    "item_id": "item_1",
}
AUDIO: dict[str, Any] = {
    "type": "response.output_audio.delta",
    "event_id": "event_1",
    "response_id": "resp_1",
    "item_id": "item_1",
    "output_index": 2,
    "content_index": 3,
    "delta": "AAEC",
}
RETRIEVED: dict[str, Any] = {
    "type": "conversation.item.retrieved",
    "event_id": "event_1",
    "item": {
        "id": "item_1",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_audio", "audio": "AAEC", "transcript": "hi"}],
    },
}


def text(plain: object) -> bytes:
    """Write JSON as servers do, without blanks."""
    return json.dumps(plain, separators=(",", ":")).encode()


class Watched:
    """A decoder whose reports are kept."""

    def __init__(self, *warm: dict[str, Any]) -> None:
        self.reports: list[ev.Drift] = []
        self.decoder = Decoder(report=self.reports.append)
        for plain in warm:  # so that what follows is not the first frame of its type
            self.decoder.decode(text(plain))

    def decode(self, plain: object) -> Any:
        """Decode plain data, or a frame."""
        return self.decoder.decode(plain if isinstance(plain, bytes | str) else text(plain))

    @property
    def counts(self) -> dict[tuple[str, str, str], int]:
        """The drift that was counted."""
        return dict(self.decoder.drift_counts)
