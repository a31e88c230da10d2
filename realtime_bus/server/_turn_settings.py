"""What turn detection goes by, taken from a session's ``turn_detection``."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from realtime_bus import events as ev

__all__ = ["TurnSettings"]

_PATIENCE_MS = {"low": 1500, "medium": 800, "auto": 800, "high": 400}
"""Silence that ends a turn under ``semantic_vad``, by eagerness."""


class TurnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What turn detection goes by; the defaults are those of recorded sessions.

    Attributes:
        threshold: Probability from which a chunk is speech, 0 to 1.
        prefix_padding_ms: How much audio before the speech belongs to the turn.
        silence_duration_ms: How much silence ends the turn.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200

    @classmethod
    def of(cls, detection: ev.TurnDetection | None) -> TurnSettings | None:
        """Return the settings that a session's turn detection means; None turns it off.

        Fields that are unset take the defaults. ``semantic_vad`` listens to whether a
        sentence sounds finished, which needs a language model; here its eagerness picks a
        length of silence well inside the longest waits of the protocol (8, 4 and 2 s), about
        what a finished sentence waits: low 1500 ms, medium and auto 800 ms, high 400 ms.
        """
        if detection is None:
            return None
        if isinstance(detection, ev.ServerVad):
            given = {name: getattr(detection, name) for name in cls.__struct_fields__}
            return cls(**{name: value for name, value in given.items() if value is not UNSET})
        eagerness = getattr(detection, "eagerness", "auto")
        return cls(silence_duration_ms=_PATIENCE_MS.get(eagerness, _PATIENCE_MS["auto"]))
