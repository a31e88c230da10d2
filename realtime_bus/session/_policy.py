"""How a session may outlive its connection: what is decided, and what is worth trying."""

from __future__ import annotations

from typing import Literal

import msgspec

from realtime_bus.errors import UsageError

RECOVERABLE = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1015})
"""Close codes after which another connection may be better (Realtime protocol, 1.5)."""

FATAL_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"})
"""Errors after which no connection will be better (Realtime protocol, "errors")."""


class Reconnect(msgspec.Struct, frozen=True, kw_only=True):
    """How a session outlives its connection: given to `Bus.connect`.

    Attributes:
        attempts: How many tries an outage may take.
        max_outage_s: Seconds without a connection after which no other try is made.
        first_delay_s: Before the second try, on average half of it; doubles with each.
        max_delay_s: The longest delay.
        restore_timeout_s: Seconds that a server may take to confirm what it is given back.
        targets: More addresses, with their models in the query, to be tried in turn. A key given
            to `Bus.connect` is sent to them, too.
        gap_audio: Whether microphone audio of the gap is dropped, or kept and sent late.
        max_gap_events: How many events may wait for the next connection, and pieces of audio.
        max_gap_bytes: Their length in bytes, together; the same for audio.
        session_limit_s: Seconds after which the server ends a session, if it does not say.
        rollover_before_s: How long before that a quiet moment is looked for, a quarter of the
            session's life at most; None for no rollover.
        rollover_margin_s: How long before the limit no more is waited for one; a quarter of the
            time to look for it at most.
    """

    attempts: int = 10
    max_outage_s: float = 60.0
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    restore_timeout_s: float = 10.0
    targets: tuple[str, ...] = ()
    gap_audio: Literal["drop", "keep"] = "drop"
    max_gap_events: int = 1024
    max_gap_bytes: int = 1024 * 1024
    session_limit_s: float | None = None
    rollover_before_s: float | None = 300.0
    rollover_margin_s: float = 20.0

    def __post_init__(self) -> None:
        for name in ("attempts", "max_gap_events", "max_gap_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"Reconnect({name}=...) must be 1 or more")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name.endswith("_s") and value is not None and not value >= 0:
                raise UsageError(f"Reconnect({name}={value!r}) must be 0 or more seconds")
        if self.gap_audio not in ("drop", "keep"):
            raise UsageError(f"Reconnect(gap_audio={self.gap_audio!r}): use 'drop' or 'keep'")
        if isinstance(self.targets, str):  # type: ignore[unreachable]  # callers without type checkers
            raise UsageError("Reconnect(targets=...) takes a list of addresses, not one")
