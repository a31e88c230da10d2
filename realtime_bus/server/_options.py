"""The local server's knobs: its limits, and the variations that real servers have."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from realtime_bus.errors import UsageError

LEAST_OUTGOING_BYTES = 128 * 1024
"""Twice what the transport calls drained: below, a session could be held and drained at once."""


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the local server behaves; the defaults are what recorded sessions show.

    Attributes:
        api_key: The only key that is let in; None lets everybody in, with or without a key.
        bad_key: What a wrong key gets: the upgrade, an error and close 3000 as at OpenAI
            (``"close"``), or HTTP 401 (``"http"``).
        allowed_origins: Web pages that are let in, such as ``"https://app.example"``, beside those
            of this machine and of the server's own host; ``"*"`` lets every page in.
        models: The models that there are, a refusal for any other; None takes every name.
        session_life_s: Age at which a session gets ``session_expired`` and close 1001.
        voice: The voice of a new session.
        announce_conversation: Send ``conversation.created`` after ``session.created``.
        rate_limits: Where a response sends ``rate_limits.updated``, or ``"none"``.
        item_done: Which of the two events that end an output item comes first:
            ``"conversation"`` or ``"output"``; ``"recorded"`` is as in recorded logs, where
            messages end with the conversation's first, function calls and whatever is cut
            short with the output's.
        pace: How many times faster than real time audio is sent; 1 is real time, infinity as
            fast as it is made.
        stall_every_ms: After how much audio of a response sending stalls; 0 never.
        stall_s: How long it stalls.
        transcript_ahead_ms: How far the transcript runs ahead of the audio it belongs to.
        odd_splits: Cut PCM deltas in the middle of samples, as some servers do.
        obfuscation: Add the undocumented ``obfuscation`` field to deltas.
        omit_nulls: Leave out what is null, in place of sending null.
        late_deltas: How many more audio deltas a response sends after the ``speech_started``
            that interrupts it.
        done_without_created: Hold ``response.created`` back until there is output, so that a
            response cancelled at once is only ever seen done.
        truncation_margin_ms: By how much the server believes its audio to be shorter than
            what it sent (one report has 85), when it judges a truncation.
        transcription_delay_s: How much longer input transcription takes.
        transcription_fails: Every input transcription fails.
        lenient_fields: Ignore unknown fields in place of refusing them.
        close_on_error: Close with 1008 after every ``error`` event.
        max_connections: Above it a connection is refused with HTTP 503.
        max_frame_bytes: Above it a connection is closed with 1009.
        max_buffer_bytes: Most uncommitted input audio, as PCM16 at 24 kHz; an append above it is
            refused. As much may be in the hands of responders, and of the transcriber: above it a
            response is refused, and a transcription fails.
        max_kept_bytes: Most that a conversation keeps: above it the oldest audio is forgotten, then
            a client's item is refused, and a turn or an answer pushes the oldest items out.
        max_items: Most items in a conversation; a client's is refused, as above.
        max_responses: Most responses at once, those out of band included.
        max_outgoing_bytes: With more than this unsent, at least 128 KiB, the session neither
            reads nor speaks until the client has caught up.
    """

    api_key: str | None = None
    bad_key: Literal["close", "http"] = "close"
    allowed_origins: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    session_life_s: float = 3600.0
    voice: str = "marin"
    announce_conversation: bool = False
    rate_limits: Literal["after_created", "before_done", "after_done", "none"] = "after_done"
    item_done: Literal["recorded", "conversation", "output"] = "recorded"
    pace: float = 4.0
    stall_every_ms: int = 0
    stall_s: float = 0.0
    transcript_ahead_ms: int = 0
    odd_splits: bool = False
    obfuscation: bool = False
    omit_nulls: bool = False
    late_deltas: int = 0
    done_without_created: bool = False
    truncation_margin_ms: int = 0
    transcription_delay_s: float = 0.0
    transcription_fails: bool = False
    lenient_fields: bool = False
    close_on_error: bool = False
    max_connections: int = 100
    max_frame_bytes: int = 24 * 1024 * 1024
    max_buffer_bytes: int = 32 * 1024 * 1024
    max_kept_bytes: int = 64 * 1024 * 1024
    max_items: int = 10_000
    max_responses: int = 32
    max_outgoing_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        if self.api_key is not None and not self.api_key.strip():
            raise UsageError(
                "api_key is empty: is the variable set that it comes from? "
                "To let everybody in, leave it out (None)"
            )
        for origin in self.allowed_origins:
            if origin not in ("*", "null") and "://" not in origin:
                raise UsageError(
                    f"allowed_origins has {origin!r}, which is no origin: "
                    "it wants a tuple of such as 'https://app.example'"
                )
        if not self.pace > 0:
            raise UsageError(f"pace must be above 0, not {self.pace}")
        if self.max_outgoing_bytes < LEAST_OUTGOING_BYTES:
            raise UsageError(
                f"max_outgoing_bytes must be at least {LEAST_OUTGOING_BYTES}, "
                f"not {self.max_outgoing_bytes}"
            )
        if not self.session_life_s > 0:
            raise UsageError(f"session_life_s must be above 0, not {self.session_life_s}")

    def __repr__(self) -> str:
        """Show what differs from the defaults, and of the key only that there is one."""
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"ServerOptions({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # rich, of an exception's locals
        """Return the same, field by field."""
        changed = [
            field.name
            for field in msgspec.structs.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return [(name, "***" if name == "api_key" else getattr(self, name)) for name in changed]
