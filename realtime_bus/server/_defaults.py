"""What a session's settings are before anybody changes them, and how changes are merged.

The values are those of recorded sessions (Realtime protocol, session and turn detection).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal, cast

__all__ = ["DEFAULTS", "DEFAULT_INSTRUCTIONS", "SessionKind", "merge"]

SessionKind = Literal["realtime", "transcription"]

DEFAULT_INSTRUCTIONS = (
    "You are a helpful, witty, and friendly voice assistant. Speak in a warm, lively tone, "
    "answer briefly, and stop when you are interrupted."
)

_PCM = {"type": "audio/pcm", "rate": 24000}

_TURN_DETECTION: dict[str, dict[str, Any]] = {
    "server_vad": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "create_response": True,
        "interrupt_response": True,
        "idle_timeout_ms": None,
    },
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}

_INPUT = {
    "format": _PCM,
    "transcription": None,
    "noise_reduction": None,
    "turn_detection": _TURN_DETECTION["server_vad"],
}

DEFAULTS: dict[SessionKind, dict[str, Any]] = {
    "realtime": {
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "audio": {"input": _INPUT, "output": {"format": _PCM, "voice": None, "speed": 1.0}},
        "include": None,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
    },
    "transcription": {"audio": {"input": _INPUT}, "include": None},
}

_MERGED = frozenset({"audio", "audio.input", "audio.output"})


def merge(
    base: dict[str, Any], changes: dict[str, Any], defaults: dict[str, Any], path: str = ""
) -> dict[str, Any]:
    """Return base with the changes in it; neither is modified."""
    merged = dict(base)
    for key, value in changes.items():
        at = f"{path}.{key}" if path else key
        if value is None and at != "audio.input.turn_detection":
            merged[key] = deepcopy(defaults.get(key))
        elif at in _MERGED:
            merged[key] = merge(base[key], cast("dict[str, Any]", value), defaults[key], at)
        else:
            merged[key] = _completed(at, value)
    return merged


def _completed(path: str, value: Any) -> Any:
    """Fill in what a turn detection object leaves out."""
    if path != "audio.input.turn_detection" or value is None:
        return value
    given = {name: setting for name, setting in value.items() if setting is not None}
    return {**_TURN_DETECTION[value["type"]], **given}
