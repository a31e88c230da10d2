"""What one response goes by: the session's settings, and what its request changes."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from realtime_bus import events as ev

from ._config import RATE_HZ, SessionConfig, check_rate
from ._refusals import voice_is_fixed
from ._usage import Meter

__all__ = [
    "Outcome",
    "ReplySettings",
    "ResponseStatus",
    "given",
    "rate_limits",
    "reply_settings",
]

Outcome: TypeAlias = Literal["completed", "cancelled", "failed", "incomplete"]
ResponseStatus: TypeAlias = Outcome | Literal["in_progress"]

_T = TypeVar("_T")


class ReplySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one response goes by, session and request taken together.

    Attributes:
        spoken: Audio with transcript, or text.
        conversation_id: The default conversation's; None out of band.
        audio_format: What audio is encoded in.
        voice: Who speaks.
        max_output_tokens: When it is cut short.
        metadata: What the request came with.
    """

    spoken: bool = True
    conversation_id: str | None = None
    audio_format: ev.AudioFormat | None = None
    voice: str | ev.CustomVoice | None = None
    max_output_tokens: int | Literal["inf"] | None = "inf"
    metadata: dict[str, str] | None = None

    def response(
        self,
        response_id: str,
        status: ResponseStatus,
        *,
        details: ev.StatusDetails | None,
        output: list[ev.Item],
        usage: ev.Usage | None,
    ) -> ev.Response:
        """Return the response as ``response.created`` and ``response.done`` show it."""
        voice = ev.ResponseAudioOutput(format=self.audio_format, voice=self.voice)
        return ev.Response(
            id=response_id,
            object="realtime.response",
            status=status,
            status_details=details,
            output=list(output),
            conversation_id=self.conversation_id,
            output_modalities=["audio" if self.spoken else "text"],
            audio=ev.ResponseAudio(output=voice),
            max_output_tokens=self.max_output_tokens,
            metadata=self.metadata,
            usage=usage,
        )


def reply_settings(
    params: ev.ResponseCreateParams, config: SessionConfig, *, conversation_id: str | None
) -> ReplySettings:
    """Put a request and the session's settings together.

    Args:
        params: The request.
        config: The session's settings.
        conversation_id: The default conversation; None out of band.

    Raises:
        Refusal: Another voice, after the model has spoken; or PCM of another rate.
    """
    session = config.realtime
    output = session.audio.output if session.audio else None
    wanted = _output_request(params)
    check_rate("response.audio.output.format.rate", getattr(wanted.format, "rate", RATE_HZ))
    return ReplySettings(
        spoken=given(params.output_modalities, session.output_modalities or []) == ["audio"],
        conversation_id=conversation_id,
        audio_format=given(wanted.format, output.format if output else None),
        voice=_voice(wanted, output.voice if output else None, fixed=config.spoken),
        max_output_tokens=given(params.max_output_tokens, session.max_output_tokens),
        metadata=given(params.metadata, None),
    )


def _voice(
    wanted: ev.ResponseAudioOutputRequest, voice: str | ev.CustomVoice | None, *, fixed: bool
) -> str | ev.CustomVoice | None:
    other = given(wanted.voice, voice)
    if fixed and other != voice:
        raise voice_is_fixed("response.audio.output.voice")
    return other


def given(value: _T | UnsetType, default: _T) -> _T:
    """Return what a request gives, or the default."""
    return default if isinstance(value, UnsetType) else value


def _output_request(params: ev.ResponseCreateParams) -> ev.ResponseAudioOutputRequest:
    audio = params.audio
    output = UNSET if isinstance(audio, UnsetType) else audio.output
    return given(output, ev.ResponseAudioOutputRequest())


def rate_limits(meter: Meter) -> list[ev.RateLimit]:
    """Return limits nobody reaches: this server has none."""
    used = meter.usage().total_tokens or 0
    left = 2_000_000 - used
    return [
        ev.RateLimit(name="requests", limit=10_000, remaining=9_999, reset_seconds=0.006),
        ev.RateLimit(name="tokens", limit=2_000_000, remaining=left, reset_seconds=used / 2e6),
    ]
